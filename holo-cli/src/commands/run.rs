//! `holo run`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use holo_client::{CallReport, Cluster, Device, Expression, RunReport, Task};
use holo_core::{DType, ErrorCode, Failure, Scalar, limits};
use serde::Serialize;

use super::Context;
use crate::argument::argument;
use crate::progress::Progress;
use crate::quantity;
use crate::table::Table;

/// Compute where the data lies: an expression, or a WASM module
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo run --expr 'y = sqrt(x*x + 1)' --in x=demo/a --out y=demo/b
  holo run --expr 'sum(x)' --in x=demo/a
  holo run kernel.wasm --in demo/a --in demo/b --out demo/c
  holo run task.wat --call 0a0b0c --grant result

An expression's output that does not exist is made like its first input; those of a module must exist. In an
expression, i is the index of the element.
A module is pushed to the nodes under the hash of its bytes and runs in a sandbox, with no access to anything but its
arrays and what --grant allows. Fuel and memory count per shard; a task that hits one ends with exit code 21 and its name.")]
#[command(group = clap::ArgGroup::new("program").required(true))]
pub(crate) struct Args {
    /// A WASM module, binary or text
    #[arg(value_name = "MODULE", group = "program")]
    module: Option<PathBuf>,
    /// An expression in NumPy's words; sum, prod, min and max around it give one value
    #[arg(short, long, value_name = "TEXT", group = "program")]
    expr: Option<String>,
    /// An array to read: NAME=ARRAY in an expression, ARRAY for a module; again for more
    #[arg(long = "in", value_name = "[NAME=]ARRAY", value_parser = argument(Binding::parse))]
    inputs: Vec<Binding>,
    /// An array to write
    #[arg(long = "out", value_name = "[NAME=]ARRAY", value_parser = argument(Binding::parse))]
    outputs: Vec<Binding>,
    /// Where an expression runs
    #[arg(long, value_parser = ["auto", "cpu", "gpu"], default_value = "auto", conflicts_with = "module")]
    device: String,
    /// Parameters for a module's holo_init: hexadecimal digits, or @FILE
    #[arg(long, value_name = "HEX|@FILE", requires = "module")]
    params: Option<String>,
    /// Call the module's holo_task once with these bytes, instead of running over arrays: hexadecimal digits, or @FILE
    #[arg(long, value_name = "HEX|@FILE", requires = "module", conflicts_with_all = ["inputs", "outputs", "params"])]
    call: Option<String>,
    /// A capability for the module, such as result, log or random; again for more [default: none]
    #[arg(long = "grant", value_name = "CAPABILITY", requires = "module")]
    grants: Vec<String>,
    /// Show the bytes that a module gives back as numbers of this type, rather than in hexadecimal
    #[arg(long, value_name = "DTYPE", value_parser = argument(DType::parse), requires = "module")]
    result: Option<DType>,
    #[command(flatten)]
    limits: Limits,
}

/// What the program may use: fuel and memory on each shard, time on each node.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Instructions for each shard, roughly [default: the node's, which is also the most]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    fuel: Option<u64>,
    /// Wall-clock time on each node, rounded up to milliseconds [default: the node's, which is also the most]
    #[arg(long, value_name = "TIME", value_parser = argument(quantity::parse_duration))]
    time: Option<Duration>,
    /// Memory of the sandbox for each shard [default: the node's, which is also the most]
    #[arg(long, value_name = "BYTES", value_parser = argument(quantity::parse_bytes))]
    memory: Option<u64>,
}

/// `x=demo/a`, or `demo/a` alone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Binding {
    name: Option<String>,
    array: String,
}

impl Binding {
    fn parse(text: &str) -> Result<Self, Failure> {
        let (name, array) = match text.split_once('=') {
            Some((name, array)) => (Some(name.trim().to_owned()), array.trim()),
            None => (None, text.trim()),
        };
        holo_core::ArrayName::new(array)?;
        Ok(Self { name, array: array.to_owned() })
    }
}

#[derive(Serialize)]
struct Ran {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dtype: Option<&'static str>,
    outputs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_hex: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partials: Vec<Partial>,
    shards: u64,
    elems: u64,
    fuel: u64,
    elapsed_us: u64,
    nodes: Vec<NodeRan>,
}

#[derive(Serialize)]
struct Partial {
    shard: u64,
    hex: String,
}

#[derive(Serialize)]
struct NodeRan {
    name: String,
    engine: String,
    shards: u64,
    elems: u64,
    fuel: u64,
    elapsed_us: u64,
    log: Vec<String>,
}

#[derive(Serialize)]
struct Called<'a> {
    output_hex: String,
    fuel: u64,
    log: &'a [String],
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    // Files are read before anybody connects: a typo in a path needs no cluster.
    let module = args.module.as_deref().map(read_module).transpose()?;
    let params = args.params.as_deref().map(read_bytes).transpose()?.unwrap_or_default();
    let call = args.call.as_deref().map(read_bytes).transpose()?;
    let cluster = context.connect_for_one_call().await?;
    let waiting = Progress::spinner(&context.output, "running");
    let report = match (module, call) {
        (Some(module), Some(call)) => {
            let called = args.task(&cluster, module, params).call(call).await?;
            drop(waiting);
            show_call(&called, args.result, context);
            return Ok(());
        }
        (Some(module), None) => args.task(&cluster, module, params).run().await?,
        (None, _) => args.expression(&cluster)?.run().await?,
    };
    drop(waiting);
    show(&report, args.result, context);
    Ok(())
}

impl Args {
    fn expression(&self, cluster: &Cluster) -> Result<Expression, Failure> {
        let text = self.expr.as_deref().unwrap_or_default();
        let mut expression = cluster.expr(text).device(Device::parse(&self.device)?);
        for input in &self.inputs {
            let Some(name) = &input.name else {
                let message = format!("--in {}: which name of the expression is it?", input.array);
                return Err(Failure::new(ErrorCode::InvalidArgument, message)
                    .help(format!("write --in x={} and use x in the expression", input.array)));
            };
            expression = expression.input(name, input.array.as_str());
        }
        match self.outputs.as_slice() {
            [] => {}
            [Binding { name: Some(name), array }] => {
                expression = expression.output(name, array.as_str());
            }
            [Binding { name: None, array }] => expression = expression.store_into(array.as_str()),
            more => {
                let message = format!("{} outputs; an expression has one", more.len());
                return Err(Failure::new(ErrorCode::InvalidArgument, message));
            }
        }
        Ok(self.limits.of_expression(expression))
    }

    fn task(&self, cluster: &Cluster, module: Vec<u8>, params: Vec<u8>) -> Task {
        let mut task = cluster.task(module).params(params);
        for input in &self.inputs {
            task = task.input(input.array.as_str());
        }
        for output in &self.outputs {
            task = task.output(output.array.as_str());
        }
        for capability in &self.grants {
            task = task.grant(capability);
        }
        self.limits.of_task(task)
    }
}

impl Limits {
    fn of_expression(&self, mut expression: Expression) -> Expression {
        if let Some(fuel) = self.fuel {
            expression = expression.fuel(fuel);
        }
        if let Some(time) = self.time {
            expression = expression.time_limit(time);
        }
        if let Some(bytes) = self.memory {
            expression = expression.memory(bytes);
        }
        expression
    }

    fn of_task(&self, mut task: Task) -> Task {
        if let Some(fuel) = self.fuel {
            task = task.fuel(fuel);
        }
        if let Some(time) = self.time {
            task = task.time_limit(time);
        }
        if let Some(bytes) = self.memory {
            task = task.memory(bytes);
        }
        task
    }
}

/// Reads a module; text is assembled here, so that nodes see binaries only.
fn read_module(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = read_file(path, limits::MODULE_BYTES_MAX)?;
    wat::parse_bytes(&bytes).map(std::borrow::Cow::into_owned).map_err(|source| {
        Failure::new(ErrorCode::ModuleInvalid, format!("{}: {source}", path.display()))
            .help("give a WASM module: a .wasm binary or its .wat text")
    })
}

/// `@FILE`, or hexadecimal digits.
fn read_bytes(text: &str) -> Result<Vec<u8>, Failure> {
    if let Some(path) = text.strip_prefix('@') {
        return read_file(Path::new(path), limits::TASK_ARGS_BYTES_MAX);
    }
    from_hex(text).ok_or_else(|| {
        Failure::new(
            ErrorCode::InvalidArgument,
            format!("{text:?} is not an even number of hexadecimal digits"),
        )
        .help("write bytes as 0a0b0c, or @FILE to take them from a file")
    })
}

fn read_file(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let failed = |source: std::io::Error| {
        Failure::new(ErrorCode::of_file(source.kind()), format!("{}: {source}", path.display()))
    };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > bytes_max as u64 {
        let message =
            format!("{}: {bytes} bytes, at most {bytes_max} are possible", path.display());
        return Err(Failure::new(ErrorCode::TooLarge, message));
    }
    std::fs::read(path).map_err(failed)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// The bytes that a module gave back, as the caller wants to see them.
fn in_words(bytes: &[u8], dtype: Option<DType>) -> String {
    let Some(dtype) = dtype else { return to_hex(bytes) };
    let values: Result<Vec<String>, Failure> = bytes
        .chunks(dtype.size())
        .map(|chunk| Scalar::from_le_bytes(dtype, chunk).map(|value| value.to_string()))
        .collect();
    values.map_or_else(|_| to_hex(bytes), |values| values.join(" "))
}

fn show_call(called: &CallReport, result: Option<DType>, context: &Context) {
    if context.output.is_json() {
        context.output.json(&Called {
            output_hex: to_hex(&called.output),
            fuel: called.fuel,
            log: &called.log,
        });
    } else {
        context.output.data(&in_words(&called.output, result));
        show_log("log", &called.log, context);
        context.output.note(&format!("{} fuel", quantity::count(called.fuel)));
    }
}

/// What a module logged goes where prose goes: it is no result.
fn show_log(place: &str, lines: &[String], context: &Context) {
    for line in lines {
        context.output.note(&format!("{place}: {line}"));
    }
}

fn show(report: &RunReport, result: Option<DType>, context: &Context) {
    if context.output.is_json() {
        context.output.json(&Ran::from(report));
        return;
    }
    if let Some(value) = report.value {
        context.output.data(&value.to_string());
    }
    if let Some(output) = &report.output {
        context.output.data(&in_words(output, result));
    }
    for partial in &report.partials {
        context.output.data(&format!(
            "shard {}: {}",
            partial.shard,
            in_words(&partial.data, result)
        ));
    }
    for name in &report.outputs {
        context.output.data(&format!("wrote {name}"));
    }
    for node in &report.nodes {
        show_log(&node.name, &node.log, context);
    }
    let mut table = Table::new(&["node", ">shards", ">elements", ">fuel", ">time", "engine"]);
    for node in &report.nodes {
        table.row([
            node.name.clone(),
            quantity::count(node.shards),
            quantity::count(node.elems),
            quantity::count(node.fuel),
            quantity::duration(node.elapsed),
            node.engine.clone(),
        ]);
    }
    context.output.note(&format!(
        "{}\n{} in {}",
        table.render(false),
        quantity::counted(report.elems, "element"),
        quantity::duration(report.elapsed)
    ));
}

impl From<&RunReport> for Ran {
    fn from(report: &RunReport) -> Self {
        let nodes = report.nodes.iter().map(|node| NodeRan {
            name: node.name.clone(),
            engine: node.engine.clone(),
            shards: node.shards,
            elems: node.elems,
            fuel: node.fuel,
            elapsed_us: micros(node.elapsed),
            log: node.log.clone(),
        });
        let partials = report
            .partials
            .iter()
            .map(|partial| Partial { shard: partial.shard, hex: to_hex(&partial.data) });
        Self {
            value: report.value.map(|value| value.to_string()),
            dtype: report.value.map(|value| value.dtype().name()),
            outputs: report.outputs.clone(),
            output_hex: report.output.as_ref().map(|output: &Bytes| to_hex(output)),
            partials: partials.collect(),
            shards: report.shards,
            elems: report.elems,
            fuel: report.fuel,
            elapsed_us: micros(report.elapsed),
            nodes: nodes.collect(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_read_or_refused() {
        let binding = Binding::parse("x=demo/a").unwrap();
        assert_eq!(binding, Binding { name: Some("x".into()), array: "demo/a".into() });
        assert_eq!(Binding::parse("demo/a").unwrap().name, None);
        assert_eq!(Binding::parse("x=").unwrap_err().code, ErrorCode::InvalidArgument);
    }

    #[test]
    fn hexadecimal_goes_there_and_back() {
        assert_eq!(from_hex("00ffA5").unwrap(), [0, 255, 165]);
        assert_eq!(to_hex(&[0, 255, 165]), "00ffa5");
        assert_eq!(from_hex("").unwrap(), [0u8; 0]);
        for bad in ["0", "0g", "+1", "é1"] {
            assert_eq!(from_hex(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn results_are_shown_as_the_caller_wants() {
        let bytes = [1, 0, 0, 0, 255, 255, 255, 255];
        assert_eq!(in_words(&bytes, None), "01000000ffffffff");
        assert_eq!(in_words(&bytes, Some(DType::I32)), "1 -1");
        // Bytes that are no whole elements are shown as they are.
        assert_eq!(in_words(&bytes[..3], Some(DType::I32)), "010000");
    }
}
