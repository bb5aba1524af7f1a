//! Every bound on bytes and counts that come from outside, in one place.

/// Bytes of an array's name.
pub const ARRAY_NAME_BYTES_MAX: usize = 200;
/// Axes of an array.
pub const DIMS_MAX: usize = 8;
/// Bytes of one array: 2^50 (1 PiB); what keeps every offset product inside `u64`.
pub const ARRAY_BYTES_MAX: u64 = 1 << 50;
/// Elements of one shard.
pub const SHARD_ELEMS_MAX: u64 = 1 << 22;
/// Bytes of one shard: 512 pages.
pub const SHARD_BYTES_MAX: u64 = 32 << 20;
/// Shards of one array.
pub const SHARDS_MAX: u64 = 1 << 31;

/// Bytes of a small request's or reply's body, and of the head of a bulk one.
pub const BODY_BYTES_MAX: u32 = 1 << 20;
/// Bytes of a bulk payload: one shard.
pub const BULK_BYTES_MAX: u64 = 64 << 20;
/// Payloads up to this many bytes travel inside a small message; larger ones get a stream of their own.
pub const INLINE_BYTES_MAX: usize = 16 << 10;
/// Requests of one connection that wait for their reply, on all its streams together; for each direction.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1024;
/// Bulk streams that one side of a connection has open at once: whose answers have not arrived whole.
pub const BULK_STREAMS_MAX: usize = 64;
/// Multiplexed streams that one side of a connection opens. Ours opens one per lane.
pub const MULTIPLEXED_STREAMS_MAX: usize = 8;
/// Seconds that the bytes of a bulk request may take to arrive, and those of its answer to be taken.
pub const BULK_SECONDS_MAX: u64 = 60;
/// Bytes of queued small messages to one peer before senders wait.
pub const SEND_QUEUE_BYTES_MAX: usize = 8 << 20;
/// Connections to one endpoint.
pub const CONNECTIONS_MAX: usize = 1024;
/// Bytes of handshake data reassembled from a peer that is not known yet.
pub const HANDSHAKE_BYTES_MAX: usize = 8 << 10;

/// Bytes of a WASM module.
pub const MODULE_BYTES_MAX: usize = 16 << 20;
/// Bytes of one function body of a module.
pub const MODULE_FUNCTION_BYTES_MAX: usize = 256 << 10;
/// Functions of a module.
pub const MODULE_FUNCTIONS_MAX: u32 = 20_000;
/// Depth of nested blocks in a function.
pub const MODULE_NESTING_MAX: u32 = 512;
/// Bytes of parameters or arguments handed to a module.
pub const TASK_ARGS_BYTES_MAX: usize = 256 << 10;
/// Bytes of log lines that one reply carries.
pub const LOG_BYTES_MAX: usize = 64 << 10;
/// Arrays bound to one run, inputs and outputs together.
pub const RUN_OPERANDS_MAX: usize = 16;
/// Bytes per operand of one tile.
pub const TILE_BYTES: usize = 128 << 10;

/// Bytes of a write that travels inside its operation.
pub const OP_BYTES_MAX: usize = 256;

/// Bytes of an expression's text.
pub const EXPR_TEXT_BYTES_MAX: usize = 16 << 10;
/// Nodes of an expression.
pub const EXPR_NODES_MAX: usize = 1024;
/// Nodes of an expression after `exp`, `sin` and their like are written out as primitive operations.
pub const EXPR_LOWERED_NODES_MAX: usize = 8192;
/// Depth of nested parentheses and calls in an expression's text.
pub const EXPR_DEPTH_MAX: usize = 128;

/// Nodes of a cluster.
pub const NODES_MAX: usize = 10_000;
/// Bytes of the name of a node, a cluster, a zone and a principal.
pub const NODE_NAME_BYTES_MAX: usize = 64;
/// Bytes of a node's address as text.
pub const NODE_ADDRESS_BYTES_MAX: usize = 255;
/// Largest weight of a node, in thousandths of a normal node.
pub const NODE_WEIGHT_MILLI_MAX: u32 = 64_000;
/// Copies of one partition.
pub const REPLICAS_MAX: usize = 7;
/// Bytes of the text header of a `.npy` file.
pub const NPY_HEADER_BYTES_MAX: usize = 64 << 10;
/// Partitions of the ring, as a power of two.
pub const PARTITION_BITS_MAX: u8 = 20;
/// Partitions of the ring by default, as a power of two.
pub const PARTITION_BITS_DEFAULT: u8 = 8;

/// Threads of a node that run kernels.
pub const WORKERS_MAX: usize = 256;
/// Runs that wait for a free worker of a node.
pub const RUNS_QUEUED_MAX: usize = 256;
/// Modules that a node keeps for one tenant.
pub const MODULES_PER_TENANT_MAX: usize = 64;
/// Arrays of a cluster: what one list in one message holds, until lists are paged.
pub const ARRAYS_MAX: usize = 2_000;
/// Replicas that one group's config names: those wanted, and as many on their way in or out.
pub const GROUP_MEMBERS_MAX: usize = 2 * REPLICAS_MAX;

/// Entries in one message of the log.
pub const APPEND_ENTRIES_MAX: usize = 1024;
/// Bytes of entries in one message of the log.
pub const APPEND_BYTES_MAX: u64 = 256 << 10;
/// Messages of the log that one member has not answered yet; more entries wait and travel together.
pub const APPENDS_IN_FLIGHT_MAX: usize = 8;
/// Entries of one group's log; beyond them a primary refuses and a backup stops acknowledging.
pub const GROUP_LOG_ENTRIES_MAX: usize = 16_384;
/// Bytes of one group's log, with the staged bytes that its entries name.
pub const GROUP_LOG_BYTES_MAX: u64 = 256 << 20;
/// Applied entries that every member has and a log keeps nevertheless, for learners of the next primary.
pub const GROUP_LOG_KEEP_ENTRIES: usize = 1_024;
/// Bytes of those entries, with the staged bytes that they name: what was published and overwritten is soon free.
pub const GROUP_LOG_KEEP_BYTES: u64 = 128 << 10;
/// Staged payloads of one group that no entry names yet.
pub const PAYLOADS_READY_MAX: usize = 1024;
/// Requests of one session that one group remembers: a client has no more without an answer.
pub const SESSION_WINDOW: u64 = 64;
/// Sessions that one group remembers.
pub const GROUP_SESSIONS_MAX: usize = 1024;
/// Answers that one group remembers, of all sessions together.
pub const GROUP_ANSWERS_MAX: usize = 16_384;
/// Bytes of the result of one operation.
pub const OUTCOME_BYTES_MAX: usize = 16;
/// Groups of one host, those that it left included.
pub const HOST_GROUPS_MAX: usize = 65_536;
/// Peers that one host shares groups with.
pub const HOST_PEERS_MAX: usize = 4_096;
/// Commits named in one beat.
pub const BEAT_COMMITS_MAX: usize = 4_096;
/// Groups that one question about their contents names, and that one answer tells of.
pub const DIGEST_GROUPS_MAX: usize = 1024;
/// Bytes of the catalog's proof of one config.
pub const CONFIG_PROOF_BYTES_MAX: usize = 4 << 10;

/// Arrays in the catalog.
pub const CATALOG_ARRAYS_MAX: usize = 200_000;
/// Bytes of one command of the catalog, and of its answer: what fits with its wrapping into one small message.
pub const CATALOG_COMMAND_BYTES_MAX: usize = BODY_BYTES_MAX as usize - (16 << 10);
/// Holders that one target table names, so that it fits into one command: 3 copies of 2^17 partitions do.
pub const TARGET_SLOTS_MAX: usize = 480_000;
/// Bytes of the catalog's whole state.
pub const CATALOG_STATE_BYTES_MAX: usize = 1 << 30;
/// Things whose changes the catalog remembers for its followers; who lags further gets the whole state.
pub const CATALOG_CHANGES_MAX: usize = 1 << 18;
/// Config changes that one node proposes in one command.
pub const PROPOSALS_MAX: usize = 4096;
/// Tickets that are open at once.
pub const TICKETS_MAX: usize = 1024;
/// Nodes that have gone and are remembered.
pub const TOMBSTONES_MAX: usize = 10_000;
/// Bytes of a program's name and version.
pub const AGENT_BYTES_MAX: usize = 128;
/// Principals of a cluster.
pub const PRINCIPALS_MAX: usize = 10_000;
/// Grants of one principal.
pub const GRANTS_MAX: usize = 64;
/// Bytes of a grant's pattern.
pub const GRANT_PATTERN_BYTES_MAX: usize = 256;
/// Session ids in one block.
pub const SESSIONS_LEASED_MAX: u32 = 1 << 20;
/// Signing keys of the catalog that are known at once.
pub const ISSUERS_MAX: usize = 64;
/// Addresses in a join ticket.
pub const TICKET_ADDRESSES_MAX: usize = 8;
/// Bytes of a join ticket as text.
pub const TICKET_TEXT_BYTES_MAX: usize = 4096;
/// Milliseconds that the clocks of two nodes may be apart.
pub const CLOCK_SKEW_MAX_MS: u64 = 60_000;
/// Connections of nodes that are no members, and may only ask to become one.
pub const STRANGERS_MAX: usize = 32;
/// Proposers that wait for one and the same request.
pub const TICKETS_PER_ENTRY_MAX: usize = 64;
/// Operations of one group that the driver has to apply at the same time.
pub const GROUP_APPLIES_MAX: usize = 1024;
/// Groups whose wanted holders one host remembers: two classes of every partition.
pub const HOST_TARGETS_MAX: usize = 2 << 20;
