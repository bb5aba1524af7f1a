use std::path::Path;

use super::*;

fn text() -> String {
    let (id, node, client) = ("11".repeat(32), "22".repeat(32), "33".repeat(32));
    format!(
        "cluster_name = \"lab\"\ncluster_id = \"{id}\"\ncluster_secret_file = \"secret\"\nname = \"n1\"\n\
         listen = \"127.0.0.1:7400\"\nidentity = \"n1.identity\"\n\
         [[members]]\nnode = \"{node}\"\nname = \"n1\"\naddress = \"127.0.0.1:7400\"\n\
         [[clients]]\nkey = \"{client}\"\nname = \"ann\"\ngrants = [\"READ:demo/*\", \"STATUS\"]\n"
    )
}

fn parse(text: &str) -> Result<Config, Failure> {
    Config::parse(text, Path::new("/etc/holo"), &BTreeMap::new())
}

#[test]
fn a_partial_file_keeps_the_defaults() {
    // An earlier system read a file into zero values and lost every default.
    let config = parse(&text()).unwrap();
    assert_eq!(config.memory_bytes, 2 << 30);
    assert_eq!(config.partition_bits, limits::PARTITION_BITS_DEFAULT);
    assert_eq!(config.suites, [Suite::HybridAes256, Suite::HybridChaCha20]);
    assert!(config.workers >= 1);
    assert_eq!(config.identity, Path::new("/etc/holo/n1.identity"));
    assert_eq!(config.members[0].weight_milli, 1000);
    assert_eq!(config.clients[0].tenant, TenantId(1));
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest() {
    let wrong = text().replace("identity = ", "identty = ");
    let failure = parse(&wrong).unwrap_err();
    assert_eq!(failure.code, ErrorCode::ConfigInvalid);
    assert_eq!(failure.help.as_deref(), Some("did you mean `identity`?"));
    let nested = text().replace("address = ", "adress = ");
    assert_eq!(parse(&nested).unwrap_err().help.as_deref(), Some("did you mean `address`?"));
}

#[test]
fn variables_win_over_the_file() {
    let variables = [("HOLO_LISTEN", "127.0.0.1:9"), ("HOLO_MEMORY", "64MiB")];
    let variables =
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    let config = Config::parse(&text(), Path::new("."), &variables).unwrap();
    assert_eq!(config.listen.port(), 9);
    assert_eq!(config.memory_bytes, 64 << 20);
}

#[test]
fn what_cannot_work_is_refused_with_its_key() {
    for (from, to, named) in [
        ("listen = \"127.0.0.1:7400\"", "listen = \"here\"", "listen"),
        ("identity = \"n1.identity\"", "identity = \"n1.identity\"\nmemory = \"4GB\"", "memory"),
        ("identity = \"n1.identity\"", "identity = \"n1.identity\"\nmemory = \"1MiB\"", "memory"),
        ("identity = \"n1.identity\"", "identity = \"n1.identity\"\nprofile = \"fast\"", "profile"),
        ("identity = \"n1.identity\"", "identity = \"n1.identity\"\nsuites = []", "suites"),
        (
            "identity = \"n1.identity\"",
            "identity = \"n1.identity\"\npartition_bits = 30",
            "partition_bits",
        ),
        ("READ:demo/*", "READS:demo/*", "READS"),
        ("READ:demo/*", "MEMBER", "MEMBER"),
        ("name = \"ann\"", "name = \"ann\"\ntenant = 0", "tenant"),
        ("address = ", "weight = 0.0\naddress = ", "weight"),
    ] {
        let wrong = text().replace(from, to);
        assert_ne!(wrong, text(), "{from} is in the text");
        let failure = parse(&wrong).unwrap_err();
        assert_eq!(failure.code, ErrorCode::ConfigInvalid, "{to}");
        assert!(failure.message.contains(named), "{to}: {}", failure.message);
    }
}

#[test]
fn a_client_gets_what_its_grants_say_and_members_may_not_act_as_clients() {
    let config = parse(&text()).unwrap();
    let policy = config.policy();
    let client = config.clients[0].key;
    assert!(policy.authorize::<holo_core::action::Read>(client, "demo/x").is_ok());
    assert!(policy.authorize::<holo_core::action::Read>(client, "other").is_err());
    let member = config.members[0].node.0;
    assert!(policy.authorize::<holo_core::action::Member>(member, "directory").is_ok());
    assert!(policy.authorize::<holo_core::action::Read>(member, "demo/x").is_err());
}

#[test]
fn a_secret_that_others_may_read_is_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "44".repeat(32)).unwrap();
    let config = Config::parse(&text(), dir.path(), &BTreeMap::new()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = config.cluster_secret().unwrap_err();
    assert_eq!(refused.code, ErrorCode::ConfigInvalid);
    assert!(!refused.to_string().contains("4444"), "the secret is not in the message");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(config.cluster_secret().unwrap(), [0x44; 32]);
}
