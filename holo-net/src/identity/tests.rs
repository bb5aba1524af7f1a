use std::os::unix::fs::PermissionsExt;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const NOW: UnixMillis = UnixMillis(1_000_000);

fn sample() -> Identity {
    Identity::generate(Role::Node, ClusterId([5; 32]), HOUR, NOW).unwrap()
}

#[test]
fn a_saved_identity_comes_back_and_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity");
    let identity = sample();
    identity.save(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let loaded = Identity::load(&path, HOUR, NOW).unwrap();
    assert_eq!(loaded.key(), identity.key());
    assert_eq!(loaded.role(), Role::Node);
    assert_eq!(loaded.cluster(), ClusterId([5; 32]));
    assert_ne!(
        *loaded.credentials(NOW).static_private,
        *identity.credentials(NOW).static_private,
        "each load makes a static key of its own"
    );
}

#[test]
fn an_identity_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity");
    let first = sample();
    first.save(&path).unwrap();
    assert!(matches!(sample().save(&path), Err(IdentityError::Exists { .. })));
    assert_eq!(Identity::load(&path, HOUR, NOW).unwrap().key(), first.key());
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity");
    sample().save(&path).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o777] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Identity::load(&path, HOUR, NOW).unwrap_err();
        assert!(matches!(error, IdentityError::Exposed { mode: found, .. } if found == mode));
        assert_eq!(Failure::from(error).code, ErrorCode::ConfigInvalid);
    }
}

#[test]
fn a_file_that_is_no_identity_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity");
    let good = sample().to_text();
    let long = "#".repeat(5000);
    let bad = [
        "",
        "version = 2\n",
        &good.replace("version = 1", "version = 9"),
        &good.replace("role = \"node\"", "role = \"king\""),
        &good.replace("seed = \"", "seed = \"0"),
        &good.replace("seed", "speed"),
        &format!("{}role = \"node\"\n", good.as_str()),
        &long,
        "seed",
    ];
    for text in bad {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(
            matches!(Identity::load(&path, HOUR, NOW), Err(IdentityError::Format { .. })),
            "{text}"
        );
    }
    std::fs::write(&path, good.as_bytes()).unwrap();
    assert!(Identity::load(&path, HOUR, NOW).is_ok());
}

#[test]
fn a_static_key_is_renewed_half_way_through_its_life() {
    let identity = sample();
    let first = identity.credentials(NOW);
    let before_half = UnixMillis(NOW.0 + 1_799_999);
    assert_eq!(*identity.credentials(before_half).static_private, *first.static_private);
    let half = UnixMillis(NOW.0 + 1_800_000);
    let second = identity.credentials(half);
    assert_ne!(*second.static_private, *first.static_private);
    assert_eq!(second.not_after, UnixMillis(half.0 + 3_600_000));
}

#[test]
fn a_printed_identity_shows_no_secret() {
    let identity =
        Identity::from_seed(&[0xab; 32], Role::Client, ClusterId([5; 32]), HOUR, NOW).unwrap();
    let shown = format!("{identity:?} {:?}", identity.credentials(NOW));
    assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
    assert!(shown.contains("<redacted>"));
}
