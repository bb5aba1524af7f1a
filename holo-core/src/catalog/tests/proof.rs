//! What makes a config believed.

use super::*;
use crate::Epoch;

fn configs(count: u32) -> Vec<GroupConfig> {
    let all = (0..count).map(|partition| GroupConfig {
        group: GroupId { partition: PartitionId(partition), class: class(2, 1) },
        epoch: Epoch(u64::from(partition) + 1),
        primary: replica(1, 1),
        in_sync: vec![replica(1, 1), replica(2, 1)],
        learners: vec![],
        lost: false,
    });
    all.collect()
}

fn certificate(lab: &Lab, issuer: u8, not_after: u64) -> IssuerCertificate {
    let not_after = UnixMillis(not_after);
    let statement = issuer_statement(lab.state.cluster(), public(issuer), not_after);
    IssuerCertificate { issuer: public(issuer), not_after, signature: sign(2, &statement) }
}

fn prove(lab: &Lab, batch: &[GroupConfig], issuer: u8) -> Vec<Vec<u8>> {
    let tree = config_root(batch);
    let signature = sign(issuer, &tree.statement(lab.state.cluster()).unwrap());
    let proofs = (0..batch.len())
        .map(|index| tree.proof(index, public(issuer), &signature).unwrap().encode());
    proofs.collect()
}

fn verifier(lab: &Lab, issuer: u8) -> IssuerVerifier {
    let mut verifier = IssuerVerifier::new(public(2));
    verifier.trust(&certificate(lab, issuer, 9000), UnixMillis(1)).unwrap();
    verifier
}

#[test]
fn every_config_of_a_batch_of_any_size_is_proven_and_no_other() {
    let lab = Lab::bare(1);
    let verifier = verifier(&lab, 7);
    for count in [1, 2, 3, 4, 5, 7, 8, 9, 16, 33] {
        let batch = configs(count);
        let proofs = prove(&lab, &batch, 7);
        for (at, config) in batch.iter().enumerate() {
            for (other, proof) in proofs.iter().enumerate() {
                assert_eq!(
                    verifier.is_proven(config, proof, UnixMillis(1)),
                    at == other,
                    "{at} {other} of {count}"
                );
            }
        }
    }
    assert_eq!(config_root(&[]).statement(lab.state.cluster()), None);
}

#[test]
fn a_proof_is_about_one_epoch_and_one_cluster() {
    let lab = Lab::bare(1);
    let batch = configs(3);
    let proofs = prove(&lab, &batch, 7);
    let verifier = verifier(&lab, 7);
    let later = GroupConfig { epoch: Epoch(batch[1].epoch.0 + 1), ..batch[1].clone() };
    let grown = GroupConfig { learners: vec![replica(3, 1)], ..batch[1].clone() };
    let lost = GroupConfig { lost: true, ..batch[1].clone() };
    for forged in [later, grown, lost] {
        assert!(!verifier.is_proven(&forged, &proofs[1], UnixMillis(1)));
    }
    let proof = CatalogProof::decode(&proofs[1]).unwrap();
    let genuine = |cluster| proof.signed(cluster, &batch[1]).is_some_and(|it| it.is_genuine());
    assert!(genuine(lab.state.cluster()));
    assert!(!genuine(crate::ClusterId([1; 32])));
}

#[test]
fn every_flipped_bit_voids_a_proof() {
    let lab = Lab::bare(1);
    let batch = configs(5);
    let proof = prove(&lab, &batch, 7).remove(2);
    let verifier = verifier(&lab, 7);
    for bit in 0..proof.len() * 8 {
        let mut changed = proof.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!verifier.is_proven(&batch[2], &changed, UnixMillis(1)), "bit {bit}");
    }
    for length in 0..proof.len() {
        assert!(CatalogProof::decode(&proof[..length]).is_none(), "{length} bytes");
    }
    assert!(CatalogProof::decode(&[proof, vec![0]].concat()).is_none());
}

#[test]
fn only_issuers_that_the_root_vouches_for_are_believed() {
    let lab = Lab::bare(1);
    let batch = configs(1);
    let mut verifier = verifier(&lab, 7);
    let by_stranger = prove(&lab, &batch, 8);
    assert!(!verifier.is_proven(&batch[0], &by_stranger[0], UnixMillis(1)));
    // A voter's certificate that another voter signed, not the root.
    let genuine = certificate(&lab, 8, 9000);
    let statement = issuer_statement(lab.state.cluster(), public(8), UnixMillis(9000));
    let forged = IssuerCertificate { signature: sign(7, &statement), ..genuine.clone() };
    let refused = verifier.trust(&forged, UnixMillis(1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::IdentityMismatch);
    let refused = verifier.trust(&genuine, UnixMillis(9000)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::CertificateExpired);
    verifier.trust(&genuine, UnixMillis(1)).unwrap();
    assert!(verifier.is_proven(&batch[0], &by_stranger[0], UnixMillis(1)));
    // Nobody has to be told that a certificate ends.
    assert!(verifier.is_proven(&batch[0], &by_stranger[0], UnixMillis(8999)));
    assert!(!verifier.is_proven(&batch[0], &by_stranger[0], UnixMillis(9000)));
}

#[test]
fn the_catalog_keeps_the_issuers_certificates() {
    let mut lab = Lab::bare(1);
    let good = certificate(&lab, 7, 9000);
    let by = Authority::Node(number(1));
    lab.ok(by, Operation::PutIssuer(good.clone()));
    lab.ok(by, Operation::PutIssuer(good.clone()));
    assert_eq!(lab.state.issuers().collect::<Vec<_>>(), [&good]);
    let renewed = certificate(&lab, 7, 12_000);
    lab.ok(by, Operation::PutIssuer(renewed.clone()));
    lab.ok(by, Operation::PutIssuer(good));
    assert_eq!(lab.state.issuers().collect::<Vec<_>>(), [&renewed]);
    let mut forged = renewed.clone();
    forged.not_after = UnixMillis(99_000);
    let refused = lab.refused(by, Operation::PutIssuer(forged));
    assert_eq!(refused.code, ErrorCode::IdentityMismatch);
    lab.now = 20_000;
    let refused = lab.refused(by, Operation::PutIssuer(renewed));
    assert_eq!(refused.code, ErrorCode::CertificateExpired);
    let next = certificate(&lab, 8, 30_000);
    lab.ok(by, Operation::PutIssuer(next.clone()));
    assert_eq!(lab.state.issuers().collect::<Vec<_>>(), [&next]);
}
