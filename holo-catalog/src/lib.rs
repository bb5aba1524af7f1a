//! The catalog's driver: one Raft group around a pure state machine.
