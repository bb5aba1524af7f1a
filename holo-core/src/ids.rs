//! Names of things: one newtype per kind, so that no two can be mixed up.

use std::fmt;
use std::sync::Arc;

use crate::{ErrorCode, Failure, limits};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 64 hexadecimal digits.
            pub fn to_hex(&self) -> String {
                self.0.iter().map(|byte| format!("{byte:02x}")).collect()
            }

            /// The first 8 hexadecimal digits: enough for people to tell a handful apart.
            pub fn short(&self) -> String {
                self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
            }

            /// Reads 64 hexadecimal digits.
            ///
            /// # Errors
            ///
            /// [`ErrorCode::InvalidArgument`] when the text is anything else.
            pub fn from_hex(text: &str) -> Result<Self, Failure> {
                parse_hex32(text).map(Self)
            }

            /// Reads exactly 32 bytes.
            ///
            /// # Errors
            ///
            /// [`ErrorCode::Malformed`] when there are fewer or more.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, Failure> {
                <[u8; 32]>::try_from(bytes).map(Self).map_err(|source| {
                    Failure::new(ErrorCode::Malformed, format!("{} needs 32 bytes: {source}", stringify!($name)))
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
    };
}

hash_id! {
    /// An Ed25519 public key: the identity of a node or a client.
    PublicKey
}
hash_id! {
    /// BLAKE3 of the cluster's root public key at creation.
    ClusterId
}
hash_id! {
    /// BLAKE3 of a WASM module's bytes.
    ModuleId
}

/// A node, named by its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub PublicKey);

impl NodeId {
    /// The first 8 hexadecimal digits.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

number_id! {
    /// An array, for as long as the cluster lives; never reused.
    ArrayId(u64)
}
number_id! {
    /// Arrays with the same colocation id have their shards of one index on one node.
    ColocationId(u64)
}
number_id! {
    /// A shard of an array, counted from 0 along the flat C-order elements.
    ShardIndex(u64)
}
number_id! {
    /// A 64 KiB page of a shard, counted from 0.
    PageIndex(u32)
}
number_id! {
    /// One of the Q equal slices of the hash ring.
    PartitionId(u32)
}
number_id! {
    /// Version of a replication group's config.
    Epoch(u64)
}
number_id! {
    /// Version of the placement table.
    TableVersion(u64)
}
number_id! {
    /// A tenant: the owner of names, quotas and arenas.
    TenantId(u32)
}
number_id! {
    /// A request of one connection.
    RequestId(u64)
}

/// What a party may be in the cluster, named in its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// A member of the ring.
    Node = 1,
    /// A program that uses the cluster.
    Client = 2,
}

impl Role {
    /// The role of a wire byte; `None` for an unknown one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Node),
            2 => Some(Self::Client),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Client => "client",
        })
    }
}

/// A valid array name: 1 to 200 bytes of `a-z A-Z 0-9 _ . -` in segments parted by `/`, none of them empty or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArrayName(Arc<str>);

impl ArrayName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`], with the rule that it breaks.
    pub fn new(text: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            Err(Failure::new(ErrorCode::InvalidArgument, format!("{text:?} is no array name: {why}"))
                .help("use letters, digits, '_', '-', '.', in segments parted by '/', such as demo/quadratic"))
        };
        if text.is_empty() || text.len() > limits::ARRAY_NAME_BYTES_MAX {
            return refuse("it must have 1 to 200 bytes");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b)) {
            return refuse("it has a character outside a-z A-Z 0-9 _ - . /");
        }
        if text.split('/').any(|segment| segment.is_empty() || segment == "." || segment == "..") {
            return refuse("a segment between slashes is empty, '.' or '..'");
        }
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ArrayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn parse_hex32(text: &str) -> Result<[u8; 32], Failure> {
    let refuse = || {
        Failure::new(ErrorCode::InvalidArgument, format!("{text:?} is not 64 hexadecimal digits"))
    };
    if text.len() != 64 || !text.is_ascii() {
        return Err(refuse());
    }
    let mut bytes = [0u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| !pair.starts_with('+'))
            .ok_or_else(refuse)?;
        *byte = u8::from_str_radix(digits, 16).ok().ok_or_else(refuse)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_there_and_back_and_refuses_the_rest() {
        let key = PublicKey(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        assert_eq!(PublicKey::from_hex(&key.to_hex()).unwrap(), key);
        for bad in ["", "00", &"g".repeat(64), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(
                PublicKey::from_hex(bad).unwrap_err().code,
                ErrorCode::InvalidArgument,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn names_are_checked() {
        for good in ["a", "demo/quadratic", "x.y-z_1/2"] {
            assert_eq!(ArrayName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a b", "ä", &"x".repeat(201)] {
            assert_eq!(
                ArrayName::new(bad).unwrap_err().code,
                ErrorCode::InvalidArgument,
                "{bad:?}"
            );
        }
    }
}
