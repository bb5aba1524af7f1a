//! What the machine itself can do, measured in the same run as our own figures.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};

use crate::timing::{Stopwatch, best_of, percentile};

/// Bytes of one bulk reference.
const BULK_BYTES: usize = 1 << 30;
/// What stays in the cache of a core.
const HOT_BYTES: usize = 1 << 20;

/// Limits of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct References {
    /// Plain TCP on loopback, one connection, the same MiB again and again, GB/s.
    pub(crate) tcp_gb_per_s: f64,
    /// TCP ping-pong of 8 bytes, microseconds at the median.
    pub(crate) tcp_ping_us: f64,
    /// One core copying large blocks, GB/s copied.
    pub(crate) memcpy_gb_per_s: f64,
    /// One core: `i*i + 3i + 1` into 100 million warm int64, seconds.
    pub(crate) native_fill_s: f64,
    /// One core: sum of 100 million int64, seconds.
    pub(crate) native_sum_s: f64,
    /// One core: sum of two arrays of 10 million float32, milliseconds.
    pub(crate) native_add_ms: f64,
}

impl References {
    /// Measures all of them; takes a few seconds.
    ///
    /// # Errors
    ///
    /// When loopback TCP does not work.
    pub(crate) fn measure(elems: usize) -> Result<Self> {
        let (native_fill_s, native_sum_s) = native_fill_and_sum(elems);
        Ok(Self {
            tcp_gb_per_s: tcp_bulk(HOT_BYTES).context("plain TCP")?,
            tcp_ping_us: tcp_ping().context("plain TCP")?,
            memcpy_gb_per_s: memcpy(),
            native_fill_s,
            native_sum_s,
            native_add_ms: native_add(),
        })
    }
}

/// Plain TCP that moves an array: from memory that no cache holds to memory that was never touched; GB/s.
///
/// # Errors
///
/// When loopback TCP does not work.
pub(crate) fn tcp_array() -> Result<f64> {
    tcp_bulk(BULK_BYTES).context("plain TCP")
}

/// Sends and receives [`BULK_BYTES`] from and to `span` bytes.
fn tcp_bulk(span: usize) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let source = vec![7u8; span];
    let sender = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        for _ in 0..BULK_BYTES / source.len() {
            stream.write_all(&source)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    // Zeros that nobody has looked at take no memory yet.
    let mut sink = vec![0u8; span];
    let watch = Stopwatch::start();
    for _ in 0..BULK_BYTES / span {
        for block in sink.chunks_mut(HOT_BYTES) {
            stream.read_exact(block).context("the sender stopped early")?;
        }
    }
    let seconds = watch.seconds();
    sender.join().map_err(|_panic| anyhow::anyhow!("the sender panicked"))??;
    black_box(&sink);
    Ok(gb(BULK_BYTES) / seconds)
}

fn tcp_ping() -> Result<f64> {
    const ROUNDS: usize = 5_000;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let echo = thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut word = [0u8; 8];
        for _ in 0..ROUNDS {
            stream.read_exact(&mut word)?;
            stream.write_all(&word)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut word = [1u8; 8];
    let mut micros = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let watch = Stopwatch::start();
        stream.write_all(&word)?;
        stream.read_exact(&mut word)?;
        micros.push(watch.seconds() * 1e6);
    }
    echo.join().map_err(|_panic| anyhow::anyhow!("the echo panicked"))??;
    Ok(percentile(&mut micros, 50))
}

fn memcpy() -> f64 {
    let from = vec![3u8; 256 << 20];
    let mut to = vec![1u8; 256 << 20];
    let seconds = best_of(5, || to.copy_from_slice(black_box(&from)));
    black_box(&to);
    gb(from.len()) / seconds
}

fn native_fill_and_sum(elems: usize) -> (f64, f64) {
    let mut values = vec![1i64; elems];
    let fill = best_of(3, || {
        for (value, i) in values.iter_mut().zip(0i64..) {
            *value = i.wrapping_mul(i).wrapping_add(i.wrapping_mul(3)).wrapping_add(1);
        }
        black_box(&mut values);
    });
    let sum = best_of(3, || {
        black_box(black_box(&values).iter().fold(0i64, |sum, value| sum.wrapping_add(*value)));
    });
    (fill, sum)
}

fn native_add() -> f64 {
    let (x, y) = (vec![1.5f32; 10_000_000], vec![2.5f32; 10_000_000]);
    let mut out = vec![1.0f32; 10_000_000];
    let seconds = best_of(5, || {
        for ((out, x), y) in out.iter_mut().zip(black_box(&x)).zip(black_box(&y)) {
            *out = x + y;
        }
        black_box(&mut out);
    });
    seconds * 1e3
}

fn gb(bytes: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let bytes = bytes as f64;
    bytes / 1e9
}
