use holo_core::catalog::issuer_statement;
use holo_core::wire::MemberEntry;

use super::*;

const NONCE: [u8; 16] = [7; 16];
const NODE: NodeId = NodeId(PublicKey([8; 32]));
const NOW: UnixMillis = UnixMillis(1_000);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

/// A cluster with its root key, and the key that its voters share.
struct Voters {
    root: SigningKey,
    issuer: SigningKey,
}

impl Voters {
    fn new(seed: u8) -> Self {
        Self { root: key(seed), issuer: key(seed + 1) }
    }

    fn cluster(&self) -> ClusterId {
        ClusterId(*blake3::hash(&public(&self.root).0).as_bytes())
    }

    fn reply(&self) -> JoinReply {
        let not_after = UnixMillis(NOW.0 + 1);
        let statement = issuer_statement(self.cluster(), public(&self.issuer), not_after);
        let certificate = IssuerCertificate {
            issuer: public(&self.issuer),
            not_after,
            signature: self.root.sign(&statement).to_bytes(),
        };
        let member = MemberEntry {
            node: vec![9; 32],
            name: "n1".to_owned(),
            address: "10.0.0.1:7400".to_owned(),
            number: 1,
            ..MemberEntry::default()
        };
        JoinReply {
            number: 4,
            cluster_name: "lab".to_owned(),
            root: public(&self.root).0.to_vec(),
            issuer: Some((&certificate).into()),
            welcome: Vec::new(),
            members: vec![member],
            voters: vec![1],
        }
    }

    fn sign(&self, mut reply: JoinReply) -> JoinReply {
        reply.welcome.clear();
        let statement = welcome_statement(self.cluster(), NODE, &NONCE, &reply);
        reply.welcome = self.issuer.sign(&statement).to_bytes().to_vec();
        reply
    }

    fn check(&self, reply: &JoinReply) -> Result<Belonging, Failure> {
        check_welcome(reply, self.cluster(), NODE, &NONCE, NOW)
    }
}

#[test]
fn a_voters_welcome_says_where_the_node_belongs() {
    let voters = Voters::new(1);
    let belonging = voters.check(&voters.sign(voters.reply())).unwrap();
    assert_eq!((belonging.number, belonging.cluster()), (NodeNumber(4), voters.cluster()));
    assert_eq!(belonging.cluster_name, "lab");
    let [member] = &belonging.members[..] else { panic!("{:?}", belonging.members) };
    assert_eq!((member.number, member.name.as_str(), member.votes), (NodeNumber(1), "n1", true));
}

#[test]
fn a_welcome_that_no_voter_of_the_tickets_cluster_signed_is_not_believed() {
    let (voters, others) = (Voters::new(1), Voters::new(11));
    let good = voters.sign(voters.reply());
    let issuer = |change: fn(&mut holo_core::wire::IssuerBody)| {
        let mut reply = voters.reply();
        change(reply.issuer.as_mut().unwrap());
        voters.sign(reply)
    };
    let forged = [
        ("another cluster's root", others.sign(others.reply())),
        ("no signing key", voters.sign(JoinReply { issuer: None, ..voters.reply() })),
        (
            "a signing key of another cluster's root",
            others.sign(JoinReply { root: voters.reply().root, ..others.reply() }),
        ),
        ("a signing key whose time was changed", issuer(|issuer| issuer.not_after_unix_ms += 1)),
        ("signed by a key that is not the voters'", {
            let intruder = Voters { root: key(1), issuer: key(30) };
            JoinReply { welcome: intruder.sign(voters.reply()).welcome, ..voters.reply() }
        }),
        ("another number", JoinReply { number: 5, ..good.clone() }),
        ("other members", JoinReply { members: Vec::new(), ..good.clone() }),
        ("other voters", JoinReply { voters: vec![2], ..good }),
    ];
    for (what, reply) in forged {
        let refused = voters.check(&reply).unwrap_err();
        assert_eq!(refused.code, ErrorCode::IdentityMismatch, "{what}: {refused}");
        assert!(refused.help.is_some(), "{what}: {refused}");
    }
}

#[test]
fn an_old_welcome_or_one_for_another_node_is_not_believed() {
    let voters = Voters::new(1);
    let good = voters.sign(voters.reply());
    let check = |node, nonce, now| {
        let checked = check_welcome(&good, voters.cluster(), node, &nonce, now);
        checked.map(drop).map_err(|failure| failure.code)
    };
    let impostor = Err(ErrorCode::IdentityMismatch);
    assert_eq!(check(NODE, NONCE, NOW), Ok(()));
    assert_eq!(check(NodeId(PublicKey([3; 32])), NONCE, NOW), impostor);
    assert_eq!(check(NODE, [6; 16], NOW), impostor, "an answer to an earlier request");
    assert_eq!(check(NODE, NONCE, UnixMillis(NOW.0 + 1)), impostor, "the signing key is over");
}

#[test]
fn a_welcome_of_the_wrong_form_is_refused_as_such() {
    let voters = Voters::new(1);
    let good = voters.sign(voters.reply());
    let spoiled: [fn(&mut JoinReply); 4] = [
        |reply| reply.root = vec![1; 31],
        |reply| reply.welcome = vec![1; 63],
        |reply| reply.issuer.as_mut().unwrap().key = vec![1; 31],
        |reply| reply.issuer.as_mut().unwrap().signature = vec![1; 65],
    ];
    for (index, spoil) in spoiled.iter().enumerate() {
        let mut reply = good.clone();
        spoil(&mut reply);
        assert_eq!(voters.check(&reply).unwrap_err().code, ErrorCode::Malformed, "{index}");
    }
}

#[test]
fn how_long_ago_a_ticket_ended_is_said_in_a_unit_that_fits() {
    // One that had just ended was told to have ended 0 minutes ago.
    for (seconds, words) in [
        (0, "less than a second ago"),
        (1, "1 second ago"),
        (119, "119 seconds ago"),
        (120, "2 minutes ago"),
        (7199, "119 minutes ago"),
        (7200, "2 hours ago"),
        (172_799, "47 hours ago"),
        (172_800, "2 days ago"),
    ] {
        assert_eq!(ago(Duration::from_secs(seconds)), words);
    }
}

/// It named one of the addresses, and how long it had waited for that one.
#[test]
fn a_join_that_nobody_answered_names_all_addresses_and_an_answer_outweighs_silence() {
    let ticket = JoinTicket {
        cluster: Voters::new(1).cluster(),
        seed: [7; 32],
        role: Role::Node,
        expires: NOW,
        addresses: vec!["10.0.0.1:7400".to_owned(), "lab2:7400".to_owned()],
    };
    let gave_up = |said: &[(ErrorCode, &str)]| {
        let mut tries = Tries::default();
        for (code, message) in said {
            tries.note(Failure::new(*code, *message));
        }
        tries.gave_up(&ticket, Duration::from_secs(30))
    };
    let silence = (ErrorCode::Unreachable, "address lab2:7400: no such host");
    let failure = gave_up(&[silence]);
    assert_eq!(failure.code, ErrorCode::Unreachable);
    let words = "nobody answered within 30s; asked at 10.0.0.1:7400, lab2:7400 (the last: address lab2:7400: no such host)";
    assert_eq!(failure.message, words);
    assert!(failure.help.unwrap().contains("holo ticket create"));
    let no_quorum = (ErrorCode::NoQuorum, "nobody leads the catalog");
    assert_eq!(gave_up(&[silence, no_quorum, silence]).code, ErrorCode::NoQuorum);
}
