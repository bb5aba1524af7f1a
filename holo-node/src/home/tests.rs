use std::os::unix::fs::PermissionsExt;

use holo_core::JoinTicket;
use tempfile::TempDir;

use super::*;
use crate::config::{Config, NodeSettings};

fn options() -> InitOptions {
    let node = NodeSettings {
        name: Some("n1".to_owned()),
        listen: Some("127.0.0.1:0".to_owned()),
        ..NodeSettings::default()
    };
    InitOptions { node, ..InitOptions::default() }
}

#[test]
fn a_new_cluster_has_a_root_key_whose_hash_is_its_id_and_a_ticket_that_says_so() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("n1");
    let made = init(&path, &options()).unwrap();
    let home = Home::at(&path);
    let belonging = home.belonging().unwrap().unwrap();
    assert_eq!(belonging.cluster(), made.cluster);
    assert_eq!((belonging.number, belonging.voter), (NodeNumber(1), 1));
    let ticket = JoinTicket::parse(made.tickets[0].as_str()).unwrap();
    assert_eq!((ticket.cluster, &ticket.addresses), (made.cluster, &vec![made.address.clone()]));
    assert!(!format!("{made:?}").contains(made.tickets[0].as_str()), "tickets are not printed");
    let founding = home.founding().unwrap().unwrap();
    assert_eq!(founding.tickets().len(), 1);
    let config = Config::load(&path, &NodeSettings::default()).unwrap();
    assert_eq!((config.name.as_str(), config.advertise), ("n1", made.address));
    assert_ne!(config.listen.port(), 0, "the port is found once");
}

#[test]
fn all_files_are_for_their_owner_only_and_one_that_is_not_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("n1");
    init(&path, &options()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.path());
    }
    let home = Home::at(&path);
    let secret = home.file("voter.toml");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = home.voter_secrets().unwrap_err();
    assert_eq!(refused.code, ErrorCode::ConfigInvalid);
    assert!(refused.help.unwrap().contains("chmod 600"));
}

#[test]
fn a_directory_that_is_in_use_is_not_overwritten_and_a_failed_init_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("n1");
    init(&path, &options()).unwrap();
    let before = std::fs::read_to_string(path.join("node.identity")).unwrap();
    assert_eq!(init(&path, &options()).unwrap_err().code, ErrorCode::AlreadyExists);
    assert_eq!(std::fs::read_to_string(path.join("node.identity")).unwrap(), before);
    let other = dir.path().join("n2");
    let mut wrong = options();
    wrong.node.memory = Some("nothing".to_owned());
    assert_eq!(init(&other, &wrong).unwrap_err().code, ErrorCode::ConfigInvalid);
    let mut nameless = options();
    nameless.node.name = Some("n 0/..".to_owned());
    let unnamed = InitOptions { cluster_name: "n 0/..".to_owned(), ..options() };
    for wrong in [nameless, unnamed] {
        let refused = init(&other, &wrong).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidArgument, "{refused}");
        assert!(refused.help.is_some(), "{refused}");
    }
    assert!(!other.exists(), "nothing is half-done");
}

#[test]
fn one_process_at_a_time_runs_a_node() {
    let dir = TempDir::new().unwrap();
    let home = Home::at(dir.path());
    let held = home.lock().unwrap();
    assert_eq!(home.lock().unwrap_err().code, ErrorCode::Conflict);
    drop(held);
    home.lock().unwrap();
}

#[test]
fn what_a_node_knows_of_its_cluster_is_written_whole_and_damage_is_noticed() {
    let dir = TempDir::new().unwrap();
    let home = Home::at(dir.path());
    assert_eq!(home.belonging().unwrap(), None);
    let belonging = Belonging {
        cluster_name: "lab \"one\"".to_owned(),
        root: PublicKey([7; 32]),
        number: NodeNumber(3),
        voter: 1 << 32 | 3,
        members: vec![KnownMember {
            number: NodeNumber(1),
            key: PublicKey([8; 32]),
            name: "n1".to_owned(),
            address: "10.0.0.1:7400".to_owned(),
            votes: true,
        }],
    };
    home.set_belonging(&belonging).unwrap();
    assert_eq!(home.belonging().unwrap(), Some(belonging));
    let file = home.file("cluster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("number = 3", "number = 0")).unwrap();
    assert_eq!(home.belonging().unwrap_err().code, ErrorCode::Corrupt);
}
