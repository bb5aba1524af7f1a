//! Measures connections between two processes on one machine, with plain TCP beside them in the same run.
//!
//! ```text
//! cargo run --release -p holo-net --example echo_bench [-- seconds per row]
//! ```

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for people, which ends at the first error"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use holo_core::wire::{FrameHeader, Kind};
use holo_core::{ClusterId, ErrorCode, Failure, PublicKey, Role, UnixMillis};
use holo_net::{
    BoxFuture, BulkReader, BulkReply, Connection, Endpoint, EndpointOptions, Expected, Identity,
    Peer, Profile, Request, Response, Service, Suite,
};
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_secs(30);
const CLUSTER: ClusterId = ClusterId([1; 32]);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("serve") => serve(profile_named(&arguments[2])),
        seconds => {
            let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(2.0);
            let row = Duration::from_secs_f64(seconds);
            for (name, profile) in [("same-host", Profile::SameHost), ("network", Profile::Network)]
            {
                measure(name, profile, row);
            }
        }
    }
}

fn measure(name: &str, profile: Profile, row: Duration) {
    let server = Server::start(name);
    println!("profile {name}");
    let tcp_rate = tcp_download(server.tcp, row);
    println!("  TCP download                          {tcp_rate:7.2} GB/s");
    println!("  TCP 8 bytes, 1 in flight, p50         {:7.1} us", tcp_ping(server.tcp, row));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut options = options(Role::Client, profile);
        options.suite_offered = Suite::HybridAes256;
        let endpoint = Endpoint::bind(options, None).unwrap();
        let expected = Expected { key: Some(server.key), role: Role::Node };
        println!(
            "  handshake, p50                        {:7.0} us",
            handshakes(&endpoint, server.quic, expected).await
        );
        let connection = endpoint.connect(server.quic, expected, DEADLINE).await.unwrap();
        let pid = server.child.id();
        let (p50, _) = calls(&connection, 1, row).await;
        println!("  8-byte call, 1 in flight, p50         {p50:7.1} us");
        let ((p50, rate), cpu) = with_cpu(pid, row, calls(&connection, 64, row)).await;
        println!("  8-byte calls, 64 in flight            {rate:7.0} /s, p50 {p50:.0} us, CPU us per call {}", cpu.per(rate / 1e6));
        for (label, bytes, in_flight) in [
            ("64 KiB reads, 1 in flight ", 64 << 10, 1),
            ("64 KiB reads, 64 in flight", 64 << 10, 64),
            ("16 MiB reads, 2 in flight ", 16 << 20, 2),
        ] {
            let ((p50, rate), cpu) = with_cpu(pid, row, reads(&connection, bytes, in_flight, row)).await;
            let ratio = rate / tcp_rate;
            println!("  {label}            {rate:7.2} GB/s ({ratio:.2} of TCP), p50 {p50:.0} us, CPU s per GB {}", cpu.per(rate));
        }
        let ((_, rate), cpu) = with_cpu(pid, row, writes(&connection, 16 << 20, 2, row)).await;
        let ratio = rate / tcp_rate;
        println!("  16 MiB writes, 2 in flight            {rate:7.2} GB/s ({ratio:.2} of TCP), CPU s per GB {}", cpu.per(rate));
        println!("  link                                  {:?}", connection.stats());
        endpoint.close().await;
    });
}

/// CPU time of the client and of the server, per second of a row. On a busy machine it says more than a rate.
struct Cpu {
    client: f64,
    server: f64,
}

impl Cpu {
    /// Both, per unit of work, of which `rate` were done in a second.
    fn per(&self, rate: f64) -> String {
        format!("{:.2} client, {:.2} server", self.client / rate, self.server / rate)
    }
}

async fn with_cpu<T>(server: u32, row: Duration, work: impl Future<Output = T>) -> (T, Cpu) {
    let own = std::process::id();
    let before = (cpu_seconds(own), cpu_seconds(server));
    let result = work.await;
    let seconds = row.as_secs_f64();
    let cpu = Cpu {
        client: (cpu_seconds(own) - before.0) / seconds,
        server: (cpu_seconds(server) - before.1) / seconds,
    };
    (result, cpu)
}

/// CPU seconds of a process so far: fields 14 and 15 of its `stat`, in hundredths.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

async fn handshakes(endpoint: &Endpoint, address: SocketAddr, expected: Expected) -> f64 {
    let mut times = Vec::new();
    for _ in 0..300 {
        let start = clock();
        let connection = endpoint.connect(address, expected, DEADLINE).await.unwrap();
        times.push(start.elapsed());
        connection.close(ErrorCode::Cancelled, "measured");
        connection.closed().await;
    }
    p50_us(times)
}

async fn calls(connection: &Connection, in_flight: usize, row: Duration) -> (f64, f64) {
    let connection = connection.clone();
    repeat(in_flight, row, move || {
        let connection = connection.clone();
        async move {
            let answer =
                connection.call(Request::new(Kind::Get, DEADLINE, &b"8 bytes."[..])).await.unwrap();
            assert_eq!(answer.len(), 8);
            1
        }
    })
    .await
}

/// p50 in microseconds and GB/s.
async fn reads(connection: &Connection, bytes: u64, in_flight: usize, row: Duration) -> (f64, f64) {
    let connection = connection.clone();
    let (p50, rate) = repeat(in_flight, row, move || {
        let connection = connection.clone();
        async move {
            let request = Request::new(Kind::ReadShard, DEADLINE, bytes.to_le_bytes().to_vec());
            let (_, mut bulk) = connection.bulk(request, Vec::new()).await.unwrap();
            let mut total = 0;
            while let Some(chunk) = bulk.chunk().await.unwrap() {
                total += chunk.len() as u64;
            }
            assert_eq!(total, bytes);
            bytes
        }
    })
    .await;
    (p50, rate / 1e9)
}

async fn writes(
    connection: &Connection,
    bytes: usize,
    in_flight: usize,
    row: Duration,
) -> (f64, f64) {
    let (connection, payload) = (connection.clone(), Bytes::from(vec![7; bytes]));
    let (p50, rate) = repeat(in_flight, row, move || {
        let (connection, payload) = (connection.clone(), payload.clone());
        async move {
            let request = Request::new(Kind::WriteShard, DEADLINE, "");
            connection.bulk(request, vec![payload.clone()]).await.unwrap();
            payload.len() as u64
        }
    })
    .await;
    (p50, rate / 1e9)
}

/// Runs `work` on `in_flight` tasks for a while; p50 in microseconds, and the sum of what `work` gave per second.
async fn repeat<F, W>(in_flight: usize, row: Duration, work: F) -> (f64, f64)
where
    F: Fn() -> W + Clone + Send + 'static,
    W: Future<Output = u64> + Send,
{
    let start = clock();
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let work = work.clone();
        workers.spawn(async move {
            let (mut times, mut done) = (Vec::new(), 0);
            while start.elapsed() < row {
                let began = clock();
                done += work().await;
                times.push(began.elapsed());
            }
            (times, done)
        });
    }
    let (mut times, mut done) = (Vec::new(), 0);
    while let Some(worker) = workers.join_next().await {
        let (worker_times, worker_done) = worker.unwrap();
        times.extend(worker_times);
        done += worker_done;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = done as f64 / start.elapsed().as_secs_f64();
    (p50_us(times), rate)
}

fn p50_us(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn tcp_download(address: SocketAddr, row: Duration) -> f64 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"d").unwrap();
    let mut buffer = vec![0; 256 << 10];
    let (start, mut total) = (clock(), 0u64);
    while start.elapsed() < row {
        total += stream.read(&mut buffer).unwrap() as u64;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = total as f64 / start.elapsed().as_secs_f64();
    rate / 1e9
}

fn tcp_ping(address: SocketAddr, row: Duration) -> f64 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"p").unwrap();
    let (start, mut times) = (clock(), Vec::new());
    while start.elapsed() < row {
        let began = clock();
        stream.write_all(b"8 bytes.").unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
        times.push(began.elapsed());
    }
    p50_us(times)
}

fn serve(profile: Profile) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp_address = tcp.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            std::thread::spawn(move || serve_tcp(stream.unwrap()));
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = options(Role::Node, profile);
        let key = options.identity.key();
        let source = Source(Bytes::from(vec![9; 16 << 20]));
        let endpoint = Endpoint::bind(options, Some(Arc::new(source))).unwrap();
        println!("{} {tcp_address} {key}", endpoint.local_addr());
        std::future::pending::<()>().await;
    });
}

fn serve_tcp(mut stream: TcpStream) {
    let mut mode = [0];
    stream.set_nodelay(true).unwrap();
    stream.read_exact(&mut mode).unwrap();
    let mut buffer = vec![0; if mode[0] == b'd' { 256 << 10 } else { 8 }];
    // The other side ends it by going away.
    while (mode[0] == b'd' || stream.read_exact(&mut buffer).is_ok())
        && stream.write_all(&buffer).is_ok()
    {}
}

/// Echoes calls, sends as many bytes as a read asks for, and swallows writes.
struct Source(Bytes);

impl Service for Source {
    fn admit(&self, _peer: &Peer) -> Result<(), Failure> {
        Ok(())
    }

    fn call(&self, _peer: &Arc<Peer>, _header: &FrameHeader, body: Bytes) -> Response {
        Response::Now(Ok(body))
    }

    fn bulk(
        &self,
        _peer: Arc<Peer>,
        header: FrameHeader,
        body: Bytes,
        mut incoming: BulkReader,
    ) -> BoxFuture<Result<BulkReply, Failure>> {
        let source = self.0.clone();
        Box::pin(async move {
            while incoming.chunk().await?.is_some() {}
            if header.kind != Kind::ReadShard {
                return Ok(BulkReply::default());
            }
            let len = body.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let len = usize::try_from(len).unwrap().min(source.len());
            Ok(BulkReply { body: Bytes::new(), bulk: vec![source.slice(..len)] })
        })
    }
}

/// The serving process; dropping it ends it.
struct Server {
    child: Child,
    quic: SocketAddr,
    tcp: SocketAddr,
    key: PublicKey,
}

impl Server {
    fn start(profile: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut child =
            Command::new(program).args(["serve", profile]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let fields: Vec<&str> = line.split_whitespace().collect();
        Self {
            child,
            quic: fields[0].parse().unwrap(),
            tcp: fields[1].parse().unwrap(),
            key: PublicKey::from_hex(fields[2]).unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn options(role: Role, profile: Profile) -> EndpointOptions {
    let identity = Identity::generate(role, CLUSTER, Duration::from_secs(3600), now()).unwrap();
    let mut options = EndpointOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)), identity);
    options.profile = profile;
    options
}

fn profile_named(name: &str) -> Profile {
    if name == "network" { Profile::Network } else { Profile::SameHost }
}

#[expect(clippy::disallowed_methods, reason = "a measuring program reads the clock")]
fn clock() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "certificates end by the wall clock")]
fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(since.as_millis()).unwrap())
}
