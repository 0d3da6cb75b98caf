//! Whole fleet files: what they become, and what is found in them.

use super::*;
use proptest::prelude::*;
use std::fmt::Write as _;

fn parse(text: &str) -> Result<Fleet, String> {
    Fleet::parse(Path::new("fleet.toml"), text).map_err(|error| error.to_string())
}

/// What is found in a file that can be read, a line each.
fn found(text: &str) -> String {
    parse(text).unwrap().check().iter().fold(String::new(), |mut said, finding| {
        let Finding { severity, kind, place, line, message, hint } = finding;
        let line = line.map_or_else(String::new, |line| format!(" (line {line})"));
        let _ = writeln!(said, "{severity:?} {kind}: {place}{line}: {message}; {hint}");
        said
    })
}

/// One hall `h` of site `s`, with more keys for its nodes, and more after it.
fn hall(nodes: &str, more: &str) -> String {
    format!(
        "[[sites]]\nname = \"s\"\n[[sites.halls]]\nname = \"h\"\n[[sites.halls.nodes]]\n{nodes}\n\
         {more}"
    )
}

const H100: &str = "platform = \"hgx-h100\"\nracks = 4\nnodes_per_rack = 2";
const POWER: &str = "[sites.halls.power]\nfeeds = 1\nups_per_feed = 2\npdus_per_ups = 1\n\
                     racks_per_pdu = 2\n";

#[test]
fn a_hall_fills_racks_rows_leaves_and_spines_in_turn() {
    let nodes = format!(
        "{}\nracks_per_row = 5\nracks_per_leaf = 2\nleaves_per_spine = 3",
        H100.replace("racks = 4", "racks = 12")
    );
    let fleet = parse(&hall(&nodes, "")).unwrap();
    assert_eq!((fleet.nodes.len(), fleet.gpus()), (24, 192));
    let node = &fleet.nodes[13];
    assert_eq!((node.name.as_str(), node.address.as_str()), ("s-h-r07-n2", "s-h-r07-n2"));
    let at = &node.location;
    assert_eq!([&at.site, &at.hall, &at.row], ["s", "h", "row-2"]);
    assert_eq!([&at.spine, &at.leaf, &at.rack], ["spine-2", "leaf-4", "rack-07"]);
    assert_eq!((at.nvlink.as_str(), fleet.check()), ("", vec![]));
}

#[test]
fn platforms_share_a_hall_and_its_numbers() {
    let nodes = format!(
        "{H100}\nracks_per_leaf = 3\n[[sites.halls.nodes]]\nplatform = \"gb200-nvl72\"\n\
         racks = 7\nracks_per_leaf = 3"
    );
    let fleet = parse(&hall(&nodes, "")).unwrap();
    assert_eq!(fleet.nodes.len(), 4 * 2 + 7 * 18);
    assert_eq!(fleet.platforms.keys().collect::<Vec<_>>(), ["gb200-nvl72", "hgx-h100"]);
    let (last, first) = (&fleet.nodes[7], &fleet.nodes[8]);
    assert_eq!((last.name.as_str(), last.location.leaf.as_str()), ("s-h-r04-n02", "leaf-2"));
    assert_eq!((first.name.as_str(), first.location.leaf.as_str()), ("s-h-r05-n01", "leaf-3"));
    assert_eq!((first.gpus, first.location.nvlink.as_str()), (4, "nvl-1"));
    assert!(!first.location.nvlink_spans_racks);
    assert_eq!(fleet.check(), []);
}

#[test]
fn an_nvlink_domain_may_span_racks() {
    let nodes = "platform = \"gb200-nvl72\"\nracks = 8\nnodes_per_rack = 9\nracks_per_leaf = 4";
    let fleet = parse(&hall(nodes, "")).unwrap();
    let (one, two) = (&fleet.nodes[0].location, &fleet.nodes[17].location);
    assert_eq!((one.nvlink.as_str(), two.nvlink.as_str()), ("nvl-1", "nvl-1"));
    assert_eq!((one.rack.as_str(), two.rack.as_str()), ("rack-1", "rack-2"));
    assert!(one.nvlink_spans_racks);
    assert_eq!(fleet.check(), []);
    let levels: Vec<&str> = one.path().map(|(level, _)| level.name()).collect();
    assert_eq!(levels, ["site", "hall", "leaf", "nvlink", "rack"]);
}

#[test]
fn halls_and_sites_are_counted_and_named() {
    let text = "gpus = 192\n[[sites]]\nname = \"a\"\ngpus = 128\n[[sites.halls]]\n\
                name = \"{site}{number}\"\ncount = 2\ngpus = 64\n[[sites.halls.nodes]]\n\
                platform = \"hgx-h100\"\ncount = 8\nnodes_per_rack = 3\nname = \"{hall}.{index:03}\"\n\
                [[sites]]\nname = \"b\"\n[[sites.halls]]\nname = \"x\"\n[[sites.halls.nodes]]\n\
                platform = \"hgx-h100\"\ncount = 8\nnodes_per_rack = 3\n";
    let text = text.replace("{site}{number}", "h{number}");
    let fleet = parse(&text).unwrap();
    assert_eq!(fleet.nodes[9].name, "h2.002");
    assert_eq!(fleet.nodes[23].location.rack, "rack-3");
    // Both sites have the same names of halls, and the nodes of site `a` are told apart.
    assert_eq!(fleet.check(), []);
}

#[test]
fn an_own_platform_builds_upon_the_catalogue() {
    let nodes = H100.replace("hgx-h100", "air");
    let own = "[platforms.air]\nlike = \"hgx-h100\"\nnode_power = \"9 kW\"\nsource = \"ours\"\n";
    let fleet = parse(&format!("{own}{}", hall(&nodes, ""))).unwrap();
    let air = &fleet.platforms["air"];
    assert_eq!((air.node_power, air.rails), (Some(Watts(9000)), Some(8)));
    assert_eq!(air.sources["node_power"], "ours");
    assert!(air.sources["rails"].contains("DGX H100"));
}

#[test]
fn hosts_and_overrides_are_for_what_no_pattern_fits() {
    let text = "[[hosts]]\nnames = \"n[1-2],x\"\ngpus = 4\naddress = \"10.0.0.[1-3]\"\n\
                rack = \"r1\"\nleaf = \"l1\"\npdu = \"p\"\n[[hosts]]\nnames = \"y\"\n\
                platform = \"mi300x\"\nrack = \"r2\"\nleaf = \"l2\"\n\
                [[override]]\nnodes = \"x\"\nrack = \"r2\"\nlabels = { pool = \"b\" }\n";
    let fleet = parse(text).unwrap();
    assert_eq!(fleet.nodes[1].address, "10.0.0.2");
    let moved = &fleet.nodes[2];
    assert_eq!((moved.location.leaf.as_str(), moved.location.pdu.as_str()), ("l2", ""));
    assert_eq!((moved.labels["pool"].as_str(), fleet.nodes[3].gpus), ("b", 8));
}

#[test]
fn what_cannot_be_read_is_said_with_its_line() {
    insta::assert_snapshot!(parse(&hall(&H100.replace("h100", "h10"), "")).unwrap_err(), @r#"
    fleet.toml:6:12: there is no platform `hgx-h10`
      |
    6 | platform = "hgx-h10"
      |            ^^^^^^^^^
    hint: did you mean `hgx-h100`?
    "#);
    let hosts = |keys: &str| format!("[[hosts]]\n{keys}");
    let own = |keys: &str| format!("[platforms.x]\n{keys}\n{}", hall(H100, ""));
    let with = |key: &str| hall(&format!("{H100}\n{key}"), "");
    for (text, expected) in [
        (String::new(), "at least one node"),
        ("[[nodes]]\ncount = 1\ngpus = 1\nplatform = \"tpu\"".into(), "no platform `tpu`"),
        (with("rackz_per_row = 2"), "did you mean `racks_per_row`?"),
        (with("racks_per_row = 0"), "nonzero"),
        (with("count = 3"), "either `racks` or `count`"),
        (with("leaves_per_spine = 2"), "`leaves_per_spine` without `racks_per_leaf`"),
        (with("name = \"n{rak}\""), "did you mean `{rack}`?"),
        (with("gpus_per_node = 65"), "1 to 64 GPUs"),
        (hall(&H100.replace("racks = 4", "racks = 4000000"), ""), "at most 1000000 nodes"),
        (hall("platform = \"hgx-h100\"\nracks = 4", ""), "say it here: `nodes_per_rack`"),
        (hall("platform = \"generic\"\nracks = 1\nnodes_per_rack = 1", ""), "`gpus_per_node`"),
        (hall("platform = \"gb200-nvl72\"\nracks = 1\nnodes_per_rack = 8", ""), "no whole racks"),
        (
            hall(
                "platform = \"gb200-nvl72\"\nracks = 4\nnodes_per_rack = 9\nracks_per_leaf = 3",
                "",
            ),
            "reach over a leaf of 3",
        ),
        (hall(H100, "").replace("\"h\"", "\"h\"\ncount = 2"), "2 halls of one name"),
        (hosts("names = \"n[1-\"\ngpus = 1"), "fleet.toml:2:9: `n[1-` has a `[` without its `]`"),
        (hosts("names = \"n1\""), "no number of GPUs"),
        (hosts("names = \"n[1-2]\"\ngpus = 1\naddress = \"a\""), "1 addresses for 2 names"),
        (format!("{}\n[[override]]\nnodes = \"s-h-r1-n9\"", hall(H100, "")), "did you mean `s-h-r"),
        (own("like = \"hgx-h1000\""), "did you mean `hgx-h100`?"),
        (own("node_power = \"9\""), "is not a power such as"),
        (own("gpus_per_node = 65"), "1 to 64 GPUs"),
        (hall(H100, &POWER.replace("feeds = 1", "feeds = 0")), "`feeds` is 0"),
        (
            format!("{}\n[[power]]\nnames = \"a\"\nkind = \"rack\"", hall(H100, "")),
            "a rack is no unit of its own",
        ),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(expected), "{text}\ngave {error}");
    }
}

#[test]
fn a_node_on_two_racks_is_found() {
    let text = "[[hosts]]\nnames = \"n[1-4]\"\ngpus = 8\nrack = \"r1\"\n\
                [[hosts]]\nnames = \"n4\"\ngpus = 8\nrack = \"r2\"\n";
    insta::assert_snapshot!(found(text), @"Error two_racks: node n4 (line 6): it stands in rack `r1` (line 2) and in rack `r2` (line 6); a node stands in one rack: name it once");
    let text = format!(
        "{}[[override]]\nnodes = \"s-h-r1-n1\"\nrack = \"rack-2\"\n\
         [[override]]\nnodes = \"s-h-r1-n[1-2]\"\nrack = \"rack-3\"\n",
        hall(H100, "")
    );
    insta::assert_snapshot!(found(&text), @"Error two_racks: node s-h-r1-n1 (line 13): it stands in rack `rack-2` (line 10) and in rack `rack-3` (line 13); a node stands in one rack: name it once");
}

#[test]
fn names_that_stand_for_two_nodes_are_found() {
    let twice = hall(&format!("{H100}\nname = \"n{{node}}\""), "");
    let text = found(&twice);
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(text.contains("duplicate_name: site s, hall h: two nodes are named `n1`"), "{text}");
    let hosts = "[[hosts]]\nnames = \"a,a\"\ngpus = 1\n";
    assert!(found(hosts).contains("on lines 2 and 2"), "{}", found(hosts));
    let spaced = "[[hosts]]\nnames = \"a b\"\ngpus = 1\n";
    assert!(found(spaced).contains("`a b` is no name for a node"));
}

#[test]
fn places_of_one_name_are_found() {
    let one = hall(H100, "");
    let other = one.replace("platform", "name = \"x{index}\"\nplatform");
    let halls = format!("{one}{}", other.split_once("[[sites]]\nname = \"s\"\n").unwrap().1);
    assert!(found(&halls).starts_with("Error duplicate_place: site s (line 10): two halls"));
    let sites = format!("{one}{other}");
    assert!(found(&sites).starts_with("Error duplicate_place: the fleet (line 10): two sites"));
}

#[test]
fn counts_that_do_not_add_up_are_found_at_every_level() {
    let text = format!("gpus = 65\n{}", hall(H100, ""))
        .replace("\"s\"", "\"s\"\ngpus = 63")
        .replace("\"h\"", "\"h\"\ngpus = 62");
    insta::assert_snapshot!(found(&text), @"
    Error count: site s, hall h (line 7): `gpus = 62`, but its groups add up to 64; correct `gpus`, or the counts of racks and nodes
    Error count: site s (line 4): `gpus = 63`, but its groups add up to 64; correct `gpus`, or the counts of racks and nodes
    Error count: the fleet (line 1): `gpus = 65`, but its groups add up to 64; correct `gpus`, or the counts of racks and nodes
    ");
    let error = Fleet::load(Path::new("fleet.toml"), &text).unwrap_err().to_string();
    assert!(error.starts_with("fleet.toml:7:1: site s, hall h: `gpus = 62`"), "{error}");
}

#[test]
fn a_power_tree_closes_and_carries_its_load() {
    let fleet = parse(&hall(H100, POWER)).unwrap();
    assert_eq!(fleet.check(), []);
    let names: Vec<&str> = fleet.power.units.iter().map(|unit| unit.name.as_str()).collect();
    let expected = ["h-feed-1", "h-ups-1", "h-ups-2", "h-pdu-1", "h-pdu-2"];
    assert_eq!(names[..5], expected);
    assert_eq!(fleet.nodes[4].location.pdu, "h-pdu-2");
    // Two nodes of 10.2 kW in each of four racks.
    assert_eq!(fleet.power.units[0].load, Watts(81_600));
    let site = hall(H100, &POWER.replace("sites.halls.power", "sites.power"));
    assert_eq!(parse(&site).unwrap().nodes[0].location.pdu, "pdu-1");
}

#[test]
fn a_power_tree_that_does_not_close_is_found() {
    let short = hall(H100, &POWER.replace("racks_per_pdu = 2", "racks_per_pdu = 1"));
    insta::assert_snapshot!(found(&short), @"Error no_pdu: site s, hall h: the power tree does not close: 2 racks hang on no PDU, the first is rack-3; raise `feeds`, `ups_per_feed`, `pdus_per_ups` or `racks_per_pdu`, or name the `pdu` of these racks");
    let idle = hall(H100, &POWER.replace("ups_per_feed = 2", "ups_per_feed = 3"));
    insta::assert_snapshot!(found(&idle), @"Warning power_unused: site s, PDU h-pdu-3: nothing hangs on it; lower the counts of the power tree, or hang something on it");
    let single = |units: &str| {
        format!(
            "[[hosts]]\nnames = \"n1\"\ngpus = 8\nplatform = \"hgx-h100\"\nrack = \"r\"\npdu = \"p1\"\n{units}"
        )
    };
    let unit = |name: &str, kind: &str, parent: &str| {
        format!("[[power]]\nnames = \"{name}\"\nkind = \"{kind}\"\nparent = \"{parent}\"\n")
    };
    let (feed, ups, pdu) =
        (unit("f1", "feed", ""), unit("u1", "ups", "f1"), unit("p1", "pdu", "u1"));
    assert_eq!(found(&single(&format!("{feed}{ups}{pdu}"))), "");
    for (units, expected) in [
        (String::new(), "rack r hangs on `p1`, which is not there"),
        (pdu.replace("\"u1\"", "\"\""), "PDU p1 hangs on no UPS"),
        (format!("{feed}{ups}{}", pdu.replace("u1", "u2")), "did you mean `u1`?"),
        (format!("{feed}{}", pdu.replace("u1", "f1")), "hangs on f1, which is a feed"),
        (format!("{}{ups}{pdu}", feed.replace("\"\"", "\"grid\"")), "feed f1 hangs on `grid`"),
        (format!("{feed}{ups}{pdu}{pdu}"), "two units of the power tree are named `p1`"),
        (format!("{feed}{ups}{}", pdu.replace("p1", "p2")), "did you mean `p2`?"),
    ] {
        let said = found(&single(&units));
        assert!(said.contains(expected), "{units}\ngave {said}");
    }
}

#[test]
fn more_load_or_capacity_than_a_unit_carries_is_found() {
    let sized = |feed: &str, ups: &str, more: &str| {
        let sizes = format!("{POWER}feed_capacity = \"{feed}\"\nups_capacity = \"{ups}\"\n{more}");
        found(&hall(H100, &sizes))
    };
    assert_eq!(sized("100 kW", "50 kW", ""), "");
    insta::assert_snapshot!(sized("90 kW", "50 kW", ""), @"Error capacity: site s, feed h-feed-1: it carries 90 kW, and what hangs on it may carry 100 kW; raise its capacity, or set `oversubscribed = true`");
    insta::assert_snapshot!(sized("100 kW", "40 kW", "").lines().next().unwrap(), @"Error overload: site s, UPS h-ups-1: it carries 40 kW, and the nodes below it draw up to 40.8 kW; hang fewer racks on it, or set `oversubscribed = true` and hold the draw down by power caps");
    assert_eq!(sized("90 kW", "50 kW", "oversubscribed = true"), "");
    assert!(sized("100 kW", "40 kW", "oversubscribed = true").starts_with("Warning overload"));
    let unknown = H100.replace("hgx-h100", "mi300x");
    let sizes = format!("{POWER}feed_capacity = \"1 MW\"\n");
    assert!(found(&hall(&unknown, &sizes)).starts_with("Warning no_power_figure: platform mi300x"));
}

#[test]
fn places_that_contradict_each_other_are_found() {
    let host = |name: &str, keys: &str| {
        format!("[[hosts]]\nnames = \"{name}\"\nplatform = \"gb200-nvl72\"\n{keys}\n")
    };
    let two = |one: &str, other: &str| found(&format!("{}{}", host("a", one), host("b", other)));
    for (one, other, expected) in [
        (
            "rack = \"r\"\nrow = \"1\"",
            "rack = \"r\"\nrow = \"2\"",
            "two row names: `1` of a, and `2` of b",
        ),
        ("rack = \"r\"\nleaf = \"1\"", "rack = \"r\"", "two leaf names: `1` of a, and none of b"),
        ("rack = \"r\"", "leaf = \"l\"", "1 of 2 nodes have no rack"),
        ("nvlink = \"d\"", "nvlink = \"d\"\nplatform = \"hgx-h100\"", "more than one platform"),
        ("gpus = 3", "gpus = 4", "it has 3 GPUs, and a node of gb200-nvl72 has 4"),
    ] {
        let other = if other.contains("platform") {
            found(&format!(
                "{}{}",
                host("a", one),
                host("b", "nvlink = \"d\"").replace("gb200-nvl72", "hgx-h100")
            ))
        } else {
            two(one, other)
        };
        assert!(other.contains(expected), "{one} gave {other}");
    }
    let large = host("t[1-19]", "nvlink = \"d\"");
    assert!(found(&large).contains("it has 76 GPUs, and gb200-nvl72 joins at most 72"));
    let many: String =
        (0..12).map(|n| host(&format!("x{n}"), &format!("gpus = {}", n + 10))).collect();
    assert!(found(&many).contains("(and 4 more like this)"), "{}", found(&many));
}

#[test]
fn ready_made_fleets_have_what_they_claim_and_nothing_is_found_in_them() {
    for (name, gpus, sites) in [
        ("laptop", 6, 1),
        ("cluster-16k", 16_384, 1),
        ("colossus-200k", 200_000, 1),
        ("stargate-1m", 1_000_000, 5),
    ] {
        let fleet = parse(ready::text(name).unwrap()).unwrap();
        assert_eq!((fleet.name.as_str(), fleet.gpus()), (name, gpus));
        assert_eq!(fleet.check(), [], "{name}");
        assert_eq!(sites > 1, fleet.platforms.contains_key("gb200-nvl72"), "{name}");
        let places: BTreeSet<&str> =
            fleet.nodes.iter().map(|node| node.location.site.as_str()).collect();
        assert_eq!(places.len(), sites, "{name}");
        // In a hall, the order of names is the order of places.
        let hall = |node: &NodeSpec| (node.location.site.clone(), node.location.hall.clone());
        let halls = fleet.nodes.chunk_by(|one, other| hall(one) == hall(other));
        assert!(halls.into_iter().all(|hall| hall.is_sorted_by_key(|node| &node.name)), "{name}");
        let tree = tree::network(&fleet);
        assert_eq!((tree.gpus, tree.nodes), (gpus, fleet.nodes.len() as u64), "{name}");
    }
    assert!(ready::load("stargate").is_none());
}

#[test]
fn alike_branches_are_drawn_as_one() {
    let fleet = ready::load("colossus-200k").unwrap().unwrap();
    let tree = tree::network(&fleet);
    let site = &tree.children[0];
    let halls: Vec<(&str, &str, u64)> = site
        .children
        .iter()
        .map(|hall| (hall.first.as_str(), hall.last.as_str(), hall.times))
        .collect();
    assert_eq!(halls, [("hall-1", "hall-4", 4), ("hall-5", "hall-5", 1)]);
    let power = tree::power(&fleet).unwrap();
    assert_eq!(power.load_w, fleet.platforms["hgx-h100"].load(25_000).unwrap());
    // All halls draw alike, whatever stands in them.
    assert_eq!(power.children[0].children[0].times, 25);
    assert_eq!(tree::power(&ready::load("laptop").unwrap().unwrap()), None);
}

fn sum(branch: &Branch) -> u64 {
    if branch.children.is_empty() {
        return branch.gpus;
    }
    branch.children.iter().map(|child| child.times * sum(child)).sum()
}

proptest! {
    #[test]
    fn a_tree_sums_up_to_its_fleet(
        racks in 1_u32..40, nodes in 1_u32..5, leaf in 1_u32..6, spine in 1_u32..4, extra in 0_u32..3,
    ) {
        let keys = format!(
            "platform = \"hgx-h100\"\ncount = {}\nnodes_per_rack = {nodes}\nracks_per_leaf = {leaf}\n\
             leaves_per_spine = {spine}\nracks_per_row = 7",
            racks * nodes + extra.min(nodes - 1)
        );
        let fleet = parse(&hall(&keys, "")).unwrap();
        prop_assert_eq!(fleet.check(), vec![]);
        prop_assert_eq!(sum(&tree::network(&fleet)), fleet.gpus());
        let names: Vec<&str> = fleet.nodes.iter().map(|node| node.name.as_str()).collect();
        prop_assert!(names.is_sorted());
    }
}

/// The blocks of the page that describes the file are fleet files, and nothing is wrong in them.
#[test]
fn the_examples_of_the_documentation_are_good_fleets() {
    let page = include_str!("../../../../docs/fleet-file.md");
    let blocks: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 3, "{} blocks", blocks.len());
    for block in blocks {
        let fleet = parse(block).unwrap_or_else(|error| panic!("{block}\n{error}"));
        assert_eq!(fleet.check(), [], "{block}");
    }
}

/// The same page has the catalogue as a table.
#[test]
fn the_documentation_has_the_figures_of_the_catalogue() {
    let page = include_str!("../../../../docs/fleet-file.md");
    for (name, platform) in platform::catalogue() {
        let start = format!("| `{name}` |");
        // The last: ready-made fleets have a table of their own.
        let row = page.lines().rfind(|line| line.starts_with(&start)).expect(name);
        let said: Vec<String> =
            row.split('|').skip(2).map(|cell| cell.trim().replace(',', "")).collect();
        let figure = |value: Option<String>| value.unwrap_or_default();
        let gpus = platform.gpus_per_node.map_or("any".to_string(), |gpus| gpus.to_string());
        let expected = [
            gpus,
            figure(platform.memory_gb.map(|gb| gb.to_string())),
            figure(platform.bf16_tflops.map(|tflops| tflops.to_string())),
            figure(platform.nvlink_gpus.map(|gpus| gpus.to_string())),
            figure(platform.rails.map(|rails| rails.to_string())),
            figure(platform.node_power.map(|watts| watts.to_string())),
            figure(platform.rack_power.map(|watts| watts.to_string())),
        ];
        assert_eq!(said[..7], expected, "{name}");
    }
}
