//! All that a node must know of an array to serve it.

use crate::replication::Class;
use crate::wire::ArrayInfo;
use crate::{
    ArrayId, ArrayLayout, ArrayName, ColocationId, DType, ErrorCode, Failure, Shape, TenantId,
    UnixMillis,
};

/// One array: what it is called, how it is cut, and by which key its shards are placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayDescriptor {
    /// Its id; never 0.
    pub id: ArrayId,
    /// Its name within the tenant.
    pub name: ArrayName,
    /// Who owns it.
    pub tenant: TenantId,
    /// Shape, dtype and shard length.
    pub layout: ArrayLayout,
    /// Arrays of one colocation group have their shards of one index on one node.
    pub colocation: ColocationId,
    /// Key of the hash that maps the group's shards to partitions. Secret towards users.
    pub placement_key: [u8; 32],
    /// Copies of each shard, at least 1.
    pub replicas: u8,
    /// In-sync copies without which nothing is written, 1 to `replicas`.
    pub min_in_sync: u8,
    /// When it was created.
    pub created: UnixMillis,
}

impl ArrayDescriptor {
    /// The class of its groups.
    pub fn class(&self) -> Class {
        Class { replicas: self.replicas, min_in_sync: self.min_in_sync }
    }
}

impl TryFrom<ArrayInfo> for ArrayDescriptor {
    type Error = Failure;

    /// Checks a descriptor that came from outside: [`ErrorCode::Malformed`] and the errors of its parts.
    fn try_from(info: ArrayInfo) -> Result<Self, Failure> {
        let malformed = |why: String| Failure::new(ErrorCode::Malformed, why);
        if info.id == 0 {
            return Err(malformed("an array with id 0".to_owned()));
        }
        // A peer that knows of one copy only leaves the number in sync away.
        let class = Class::new(info.replicas, info.min_in_sync.max(1))
            .map_err(|failure| Failure { code: ErrorCode::Malformed, ..failure })?;
        let placement_key = info.placement_key.as_slice().try_into().map_err(|source| {
            malformed(format!("a placement key of {} bytes: {source}", info.placement_key.len()))
        })?;
        let shape = Shape::new(&info.shape)?;
        let dtype = DType::from_byte(info.dtype)?;
        Ok(Self {
            id: ArrayId(info.id),
            name: ArrayName::new(&info.name)?,
            tenant: TenantId(info.tenant),
            layout: ArrayLayout::new(shape, dtype, info.shard_elems)?,
            colocation: ColocationId(info.colocation),
            placement_key,
            replicas: class.replicas,
            min_in_sync: class.min_in_sync,
            created: UnixMillis(info.created_unix_ms),
        })
    }
}

impl From<&ArrayDescriptor> for ArrayInfo {
    fn from(array: &ArrayDescriptor) -> Self {
        Self {
            id: array.id.0,
            name: array.name.as_str().to_owned(),
            shape: array.layout.shape().dims().to_vec(),
            dtype: u32::from(array.layout.dtype().to_byte()),
            shard_elems: array.layout.shard_elems(),
            colocation: array.colocation.0,
            placement_key: array.placement_key.to_vec(),
            replicas: u32::from(array.replicas),
            min_in_sync: u32::from(array.min_in_sync),
            created_unix_ms: array.created.0,
            tenant: array.tenant.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_cross_the_wire_whole_and_broken_ones_are_refused() {
        let shape = Shape::new(&[3, 5]).unwrap();
        let array = ArrayDescriptor {
            id: ArrayId(1),
            name: ArrayName::new("demo/a").unwrap(),
            tenant: TenantId(7),
            layout: ArrayLayout::new(shape, DType::F64, 4).unwrap(),
            colocation: ColocationId(1),
            placement_key: [42; 32],
            replicas: 2,
            min_in_sync: 1,
            created: UnixMillis(99),
        };
        let info = ArrayInfo::from(&array);
        assert_eq!(ArrayDescriptor::try_from(info.clone()).unwrap(), array);
        for (bad, code) in [
            (ArrayInfo { id: 0, ..info.clone() }, ErrorCode::Malformed),
            (ArrayInfo { replicas: 0, ..info.clone() }, ErrorCode::Malformed),
            (ArrayInfo { replicas: 257, ..info.clone() }, ErrorCode::Malformed),
            (ArrayInfo { placement_key: vec![0; 31], ..info.clone() }, ErrorCode::Malformed),
            (ArrayInfo { dtype: 0, ..info.clone() }, ErrorCode::Malformed),
            (ArrayInfo { name: "a//b".into(), ..info.clone() }, ErrorCode::InvalidArgument),
            (ArrayInfo { shape: vec![u64::MAX, 2], ..info.clone() }, ErrorCode::ShapeOverflow),
            (ArrayInfo { shard_elems: 0, ..info }, ErrorCode::InvalidArgument),
        ] {
            assert_eq!(ArrayDescriptor::try_from(bad.clone()).unwrap_err().code, code, "{bad:?}");
        }
    }
}
