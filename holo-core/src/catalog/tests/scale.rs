//! The shape of large states; `holo-bench --only catalog` measures their size and speed.

use super::*;

#[test]
fn a_table_of_the_largest_ring_for_a_thousand_nodes_fits_into_one_command() {
    let bits = 17;
    // Numbers as high as they get after years of joining and leaving.
    let holders: Vec<NodeNumber> =
        (0..3u32 << bits).map(|slot| number(3_000_000 + slot % 1000)).collect();
    let table = TargetTable::new(3, holders).unwrap();
    let update = TableUpdate {
        base_version: crate::TableVersion(7),
        version: crate::TableVersion(8),
        tables: [(3, table)].into(),
    };
    let operation = Operation::ApplyTable(update);
    let command = Command { at: UnixMillis(1), by: Authority::Node(number(1)), operation };
    let bytes = command.encode();
    assert!(bytes.len() <= crate::limits::CATALOG_COMMAND_BYTES_MAX, "{} bytes", bytes.len());
    assert_eq!(Command::decode(&bytes).unwrap(), command);
}

#[test]
fn a_full_batch_of_proposals_and_its_answer_fit_into_one_message() {
    let mut lab = Lab::new(3);
    lab.array("a", 3, 1);
    let config = lab.config(0, class(3, 1));
    let change = ConfigChange::Remove(replica(u32::MAX, u32::MAX));
    let epoch = crate::Epoch(u64::MAX);
    let proposal = Proposal { group: config.group, epoch, by: config.primary, change };
    let proposals = vec![proposal; crate::limits::PROPOSALS_MAX];
    let operation = Operation::ProposeChanges { reporter: config.primary, proposals };
    let by = Authority::Node(config.primary.node);
    let command = Command { at: UnixMillis(1), by, operation: operation.clone() };
    assert!(command.encode().len() <= crate::limits::CATALOG_COMMAND_BYTES_MAX);
    let members: Vec<ReplicaId> = (0..14).map(|it| replica(u32::MAX - 14 + it, u32::MAX)).collect();
    let largest = ProposalAnswer {
        group: config.group,
        refusal: Some(ChangeRefusal::Stale),
        config: Some(GroupConfig { primary: members[0], in_sync: members, ..config }),
    };
    let answer = Answer::Proposals(vec![largest; crate::limits::PROPOSALS_MAX]);
    assert!(answer.encode().len() <= crate::limits::CATALOG_COMMAND_BYTES_MAX);
    lab.ok(by, operation);
}
