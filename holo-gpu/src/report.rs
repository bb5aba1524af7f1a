//! What a worker tells about its adapter.

use std::fmt;

/// The adapter of a worker, as its driver describes it and as the canary kernel found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterReport {
    /// Name of the device: `NVIDIA H200`, `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// Driver and its version: `llvmpipe Mesa 22.3.6`.
    pub driver: String,
    /// What kind of device it is.
    pub device_type: DeviceType,
    /// What the canary kernel found it able to do.
    pub capabilities: Capabilities,
    /// Bytes of one storage binding.
    pub storage_binding_bytes_max: u64,
    /// Bytes of one buffer.
    pub buffer_bytes_max: u64,
}

impl fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.device_type, self.driver)
    }
}

/// Capabilities that were tried out, not read from a list of extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Long loops end early without an error (Mesa's lavapipe: after 65,535 iterations): built-in kernels only.
    pub loop_limited: bool,
    /// Shaders may use 64-bit integers. Our own kernels do not need it.
    pub int64: bool,
    /// Shaders may use `f64`. No kernel of ours does.
    pub float64: bool,
    /// A write past the end of a buffer left its neighbours as they were.
    pub out_of_bounds_contained: bool,
}

impl Capabilities {
    pub(crate) fn to_bits(self) -> u32 {
        u32::from(self.loop_limited)
            | u32::from(self.int64) << 1
            | u32::from(self.float64) << 2
            | u32::from(self.out_of_bounds_contained) << 3
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        Self {
            loop_limited: bits & 1 != 0,
            int64: bits & 2 != 0,
            float64: bits & 4 != 0,
            out_of_bounds_contained: bits & 8 != 0,
        }
    }
}

/// Kind of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceType {
    /// A card with its own memory.
    Discrete,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A virtual machine's share of one.
    Virtual,
    /// Software: the CPU plays GPU.
    Software,
    /// The driver does not say.
    Unknown,
}

impl DeviceType {
    pub(crate) fn to_number(self) -> u32 {
        match self {
            Self::Unknown => 0,
            Self::Software => 1,
            Self::Virtual => 2,
            Self::Integrated => 3,
            Self::Discrete => 4,
        }
    }

    pub(crate) fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Software,
            2 => Self::Virtual,
            3 => Self::Integrated,
            4 => Self::Discrete,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Software => "software device",
            Self::Unknown => "device of unknown kind",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_bits_go_there_and_back() {
        for bits in 0..16 {
            assert_eq!(Capabilities::from_bits(bits).to_bits(), bits);
        }
    }

    #[test]
    fn device_types_go_there_and_back() {
        for number in 0..5 {
            assert_eq!(DeviceType::from_number(number).to_number(), number);
        }
        assert_eq!(DeviceType::from_number(77), DeviceType::Unknown);
    }
}
