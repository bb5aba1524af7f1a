use std::path::Path;

use super::*;

const TEXT: &str = "name = \"n1\"\nlisten = \"127.0.0.1:7400\"\n";

fn with(text: &str, variables: &[(&str, &str)], flags: &NodeSettings) -> Result<Config, Failure> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let variables = variables.iter().map(owned).collect();
    Config::resolve(text, Path::new("/var/lib/holo"), &variables, flags)
}

fn parse(text: &str) -> Result<Config, Failure> {
    with(text, &[], &NodeSettings::default())
}

#[test]
fn a_partial_file_keeps_the_defaults() {
    // An earlier system read a file into zero values and lost every default.
    let config = parse(TEXT).unwrap();
    assert_eq!(config.memory_bytes, 2 << 30);
    assert_eq!(config.suites, [Suite::HybridAes256, Suite::HybridChaCha20]);
    assert!(config.workers >= 1);
    assert_eq!(config.home, Path::new("/var/lib/holo"));
    assert_eq!((config.weight_milli, config.zone.as_str()), (1000, ""));
    assert_eq!(config.advertise, "127.0.0.1:7400");
    assert_eq!(config.timers.down_after, Duration::from_secs(3));
    assert!(!parse("").unwrap().name.is_empty(), "the machine's name");
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest() {
    let failure = parse("listn = \"127.0.0.1:1\"\n").unwrap_err();
    assert_eq!(failure.code, ErrorCode::ConfigInvalid);
    assert_eq!(failure.help.as_deref(), Some("did you mean `listen`?"));
    let nested = parse("[timers]\nleas_ms = 3\n").unwrap_err();
    assert_eq!(nested.help.as_deref(), Some("did you mean `lease_ms`?"));
}

#[test]
fn a_flag_wins_over_a_variable_and_that_over_the_file() {
    let variables = [("HOLO_NAME", "of-variable"), ("HOLO_MEMORY", "64MiB")];
    let flags = NodeSettings { name: Some("of-flag".to_owned()), ..NodeSettings::default() };
    let config = with(TEXT, &variables, &flags).unwrap();
    assert_eq!((config.name.as_str(), config.memory_bytes), ("of-flag", 64 << 20));
    assert_eq!(with(TEXT, &variables, &NodeSettings::default()).unwrap().name, "of-variable");
}

#[test]
fn what_cannot_work_is_refused_with_its_key_and_where_it_came_from() {
    for (line, named) in [
        ("listen = \"here\"", "listen"),
        ("advertise = \"here\"", "advertise"),
        ("advertise = \"here:0\"", "advertise"),
        ("memory = \"4GB\"", "memory"),
        ("memory = \"1MiB\"", "memory"),
        ("profile = \"fast\"", "profile"),
        ("suites = []", "suites"),
        ("weight = 0.0", "weight"),
        ("weight = 65.0", "weight"),
        ("name = \"\"", "name"),
        ("[timers]\ntake_over_ms = 300", "takeover"),
        ("[timers]\ncatalog_election_min_ms = 600", "catalog_election_min_ms"),
        ("[timers]\nliveness_ms = 2000", "down_after_ms"),
    ] {
        let failure = parse(line).unwrap_err();
        assert_eq!(failure.code, ErrorCode::ConfigInvalid, "{line}");
        assert!(failure.message.contains(named), "{line}: {}", failure.message);
    }
    let refused = with(TEXT, &[("HOLO_WORKERS", "many")], &NodeSettings::default()).unwrap_err();
    assert!(refused.message.contains("from HOLO_WORKERS"), "{}", refused.message);
}

#[test]
fn settings_go_into_a_file_and_back() {
    let settings = NodeSettings {
        name: Some("a \"quoted\" name".to_owned()),
        weight: Some(0.5),
        timers: Some(TimerSettings { lease_ms: Some(250), ..TimerSettings::default() }),
        ..NodeSettings::default()
    };
    let text = toml::to_string(&settings).unwrap();
    assert_eq!(toml::from_str::<NodeSettings>(&text).unwrap(), settings);
    let config = parse(&text).unwrap();
    assert_eq!(config.weight_milli, 500);
    assert_eq!(config.timers.replication.lease, Duration::from_millis(250));
}

#[test]
fn a_node_can_be_named_after_any_machine() {
    for (machine, name) in [
        ("lab1.example", "lab1.example"),
        ("Ann's Mac", "Ann-s-Mac"),
        ("-_.x", "x"),
        ("", "node"),
        ("...", "node"),
        ("über", "ber"),
    ] {
        assert_eq!(named_after(machine), name);
        holo_core::check_name("node", &named_after(machine)).unwrap();
    }
    let long = named_after(&"x".repeat(300));
    holo_core::check_name("node", &long).unwrap();
}
