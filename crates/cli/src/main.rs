//! The `lindos` binary: words to requests.
//!
//! One file a command under [`commands`]; [`connect`] finds whom to ask, [`render`] makes text
//! from answers, [`local`] runs a whole fleet on this machine, [`failure`] says how a command
//! ends. `docs/cli.md` is what users may rely on.

mod commands;
mod connect;
mod failure;
mod fleet_file;
mod job_file;
mod local;
mod offline;
mod output;
mod policy_file;
mod remedies_file;
mod render;
mod state;
mod when;

use clap::Parser;
use commands::Command;
use std::process::ExitCode;

/// Runs AI training jobs, mends them after faults, accounts for every GPU-second
#[derive(Parser, Debug)]
#[command(name = "lindos", version, propagate_version = false, arg_required_else_help = true)]
#[command(after_help = "Exit status: 0 done, 1 failed, 2 bad input, 3 no such job or node,\n\
                        4 no control plane, 5 state folder unusable, 130 interrupted.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match commands::dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                output::message(failure.to_string());
            }
            failure.exit.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_names_every_command() {
        insta::assert_snapshot!(Cli::command().term_width(100).render_help(), @"
        Runs AI training jobs, mends them after faults, accounts for every GPU-second

        Usage: lindos <COMMAND>

        Commands:
          run           Run a job here, with a control plane and a fleet of its own, until it ends
          up            Serve a control plane with agents on this machine
          submit        Hand a job to the control plane
          jobs          List the jobs
          job           Show one job: its attempts, its ranks, where its GPU-time went
          logs          Print what a rank has written
          cancel        Stop a job for good
          why           Say what keeps a job from running, or why a node is idle
          nodes         List the nodes
          node          Show one node: what was found there, what was tried, its history
          repairs       List the nodes that are out for repair, and say what became of them
          drain         Take a node out of service once its jobs have ended
          undrain       Take a node back into service
          reserve       Set nodes aside for a team or for maintenance, from a moment on
          reservations  List the reservations
          unreserve     End a reservation
          teams         Show what the teams hold, have used, and wait for
          events        Print what happened, and why
          goodput       Show where the fleet's GPU-time went
          health        Show how well the fleet is; look for faults of this machine
          burnin        Try whether this node computes, keeps and carries bits rightly, and how fast
          alerts        Try the webhooks that alerts go to
          fleet         Draw, check and import fleet files
          sim           Try a fleet, a policy or a fault in virtual time
          whatif        Play a recorded journal again under a change; print what that would have come to
          bench         Measure the control plane
          stand-by      In a job's script: wait for a rank, and print its variables
          help          Print this message or the help of the given subcommand(s)

        Options:
          -h, --help     Print help
          -V, --version  Print version

        Exit status: 0 done, 1 failed, 2 bad input, 3 no such job or node,
        4 no control plane, 5 state folder unusable, 130 interrupted.
        ");
    }

    #[test]
    fn a_mistyped_command_is_answered_with_the_right_one() {
        let error = Cli::try_parse_from(["lindos", "goodputt"]).unwrap_err();
        insta::assert_snapshot!(error, @"
        error: unrecognized subcommand 'goodputt'

          tip: a similar subcommand exists: 'goodput'

        Usage: lindos <COMMAND>

        For more information, try '--help'.
        ");
    }
}
