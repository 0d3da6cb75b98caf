//! `lindos sim validate` as a person and as a program see it.

mod support;

use support::Lab;

const ONE: &str = "mttf 1,024";

#[test]
fn a_program_gets_each_figure_beside_the_published_one() {
    let lab = Lab::new();
    let told = lab.json(["sim", "validate", "--quick", ONE]);
    let checks = told.as_array().unwrap();
    assert_eq!(checks.len(), 1);
    let check = &checks[0];
    assert_eq!((&check["group"], &check["ok"]), (&"mttf".into(), &true.into()));
    assert!(check["name"].as_str().unwrap().starts_with("1,024 GPUs"));
    assert!(check["source"].as_str().unwrap().contains("arXiv:2410.21680"));
    let figure = |key: &str| check[key].as_f64().unwrap();
    assert!(figure("low") < figure("ours") && figure("ours") < figure("high"), "{check}");
    assert!((figure("published") - 28.85).abs() < 1e-9);
}

#[test]
fn a_person_gets_a_table_with_the_contradiction_under_it() {
    let ended = Lab::new().output(["sim", "validate", "--quick", ONE]);
    let text = ended.stdout;
    assert_eq!(ended.code, 0, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("28.85 h") && text.contains("7.9 h") && text.contains("1 of 1 agree"));
}

#[test]
fn a_name_of_no_case_is_refused_with_those_there_are() {
    let ended = Lab::new().output(["sim", "validate", "moon"]);
    assert_eq!(ended.code, 2);
    let text = ended.stderr;
    assert!(text.contains("\"moon\"") && text.contains("hint:") && text.contains("months rsc-1"));
}
