//! Expressions with their arrays, run on the nodes that hold them.

use std::time::Duration;

use bytes::Bytes;

use holo_core::expr::{self, Input, NodeIndex, Op, Program, Reduction};
use holo_core::wire::ShardPartial;
use holo_core::{ArrayName, DType, ErrorCode, Failure, Scalar, ShardIndex};

use crate::run::{Code, Run, RunLimits, RunReport, check_beside};
use crate::{AnyArray, Cluster, Device, Error, Result, SharedArray};

/// An array of a program: by name, or one that is at hand.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Operand {
    /// Looked up when the program runs.
    Name(String),
    /// At hand.
    Array(AnyArray),
}

impl Operand {
    pub(crate) async fn resolve(&self, cluster: &Cluster) -> Result<AnyArray> {
        match self {
            Self::Name(name) => cluster.open_any(name).await,
            Self::Array(array) => Ok(array.clone()),
        }
    }

    async fn find(&self, cluster: &Cluster) -> Result<Option<AnyArray>> {
        match self {
            Self::Name(name) => cluster.find_any(name).await,
            Self::Array(array) => Ok(Some(array.clone())),
        }
    }
}

impl From<&str> for Operand {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for Operand {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<&AnyArray> for Operand {
    fn from(array: &AnyArray) -> Self {
        Self::Array(array.clone())
    }
}

impl<T> From<&SharedArray<T>> for Operand {
    fn from(array: &SharedArray<T>) -> Self {
        Self::Array((**array).clone())
    }
}

/// An expression and the arrays that its names stand for; see [`Cluster::expr`].
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `run`"]
pub struct Expression {
    cluster: Cluster,
    source: Source,
    inputs: Vec<(String, Operand)>,
    output: Option<(Option<String>, Operand)>,
    device: Device,
    limits: RunLimits,
}

#[derive(Clone, Debug)]
enum Source {
    Text(String),
    Program(Box<Program>),
}

/// Where the value goes.
struct Output {
    /// The array, under its name in the expression; none for a reduction.
    array: Option<(String, AnyArray)>,
    /// Whether this call made it.
    made: bool,
}

impl Expression {
    pub(crate) fn of_text(cluster: Cluster, text: &str) -> Self {
        Self::new(cluster, Source::Text(text.to_owned()))
    }

    pub(crate) fn of_program(cluster: Cluster, program: Program) -> Self {
        Self::new(cluster, Source::Program(Box::new(program)))
    }

    fn new(cluster: Cluster, source: Source) -> Self {
        Self {
            cluster,
            source,
            inputs: Vec::new(),
            output: None,
            device: Device::Auto,
            limits: RunLimits::default(),
        }
    }

    /// Binds a name of the expression to an array, by the array's name or by a handle.
    pub fn input(mut self, name: &str, array: impl Into<Operand>) -> Self {
        self.inputs.push((name.to_owned(), array.into()));
        self
    }

    pub(crate) fn input_array(self, name: &str, array: &AnyArray) -> Self {
        self.input(name, array)
    }

    /// Says where the value assigned to `name` goes. An array that does not exist is made like the first input.
    pub fn output(mut self, name: &str, array: impl Into<Operand>) -> Self {
        self.output = Some((Some(name.to_owned()), array.into()));
        self
    }

    /// Says where the value goes. An array that does not exist is made like the first input.
    pub fn store_into(mut self, array: impl Into<Operand>) -> Self {
        self.output = Some((None, array.into()));
        self
    }

    /// Where it runs.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Fuel that it may burn on each shard; the node's default is also the most that it allows.
    pub fn fuel(mut self, fuel: u64) -> Self {
        self.limits.fuel = fuel;
        self
    }

    /// Time that it may take on each node, in whole milliseconds rounded up; the node's default is also the most that
    /// it allows.
    pub fn time_limit(mut self, time: Duration) -> Self {
        self.limits.time = time;
        self
    }

    /// Guest memory that it may use for each shard, in bytes; the node's default is also the most that it allows.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.limits.memory_bytes = bytes;
        self
    }

    /// Parses and type-checks the expression against its arrays, and runs nothing. Returns the dtype of its value.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ExpressionInvalid`] with a line that points at the place; [`ErrorCode::NotFound`] for an array.
    pub async fn check(&self) -> Result<DType> {
        let inputs = self.resolve_inputs().await?;
        Ok(self.parse(&inputs)?.1.output_dtype())
    }

    /// Runs it on every node that holds a shard of its arrays.
    ///
    /// When a node fails, the others have still written their shards; an output that this call made is removed again.
    ///
    /// # Errors
    ///
    /// Those of [`Self::check`]; [`ErrorCode::NotColocated`], [`ErrorCode::DtypeMismatch`] for the output,
    /// [`ErrorCode::InvalidArgument`] without an output or with one too many; the limits by their names;
    /// [`ErrorCode::NoGpuAdapter`] where a GPU was asked for.
    pub async fn run(&self) -> Result<RunReport> {
        let one = Self { cluster: self.cluster.for_one_call(), ..self.clone() };
        let bound = one.resolve_inputs().await?;
        let (target, program) = one.parse(&bound)?;
        let inputs = one.used(&program, &bound)?;
        let Output { array: output, made } =
            one.resolve_output(target.as_deref(), &program, &bound).await?;
        let unfilled = output.as_ref().filter(|_| made).map(|(_, array)| array.clone());
        let ran = one.run_into(&program, inputs, output).await;
        if let (Err(_), Some(unfilled)) = (&ran, unfilled) {
            self.cluster.take_back(&unfilled).await;
        }
        ran
    }

    async fn run_into(
        &self,
        program: &Program,
        inputs: Vec<(String, AnyArray)>,
        output: Option<(String, AnyArray)>,
    ) -> Result<RunReport> {
        if inputs.is_empty() && output.is_none() {
            let message = "an expression over the index alone needs an array to run over";
            return Err(Error::new(ErrorCode::InvalidArgument, message)
                .help("create an array and store the expression into it, then reduce that"));
        }
        let run = Run {
            code: Code::Expression(Bytes::from(program.encode())),
            inputs,
            outputs: output.into_iter().collect(),
            params: Bytes::new(),
            device: self.device,
            limits: self.limits,
            grants: Vec::new(),
        };
        let mut report = run.everywhere(&self.cluster.changing()).await?;
        report.outputs = run.outputs.iter().map(|(_, array)| array.name().to_owned()).collect();
        if let Some(reduction) = program.reduction() {
            let partials = std::mem::take(&mut report.partials);
            report.value = Some(reduced(program, reduction, report.shards, &partials)?);
        }
        Ok(report)
    }

    async fn resolve_inputs(&self) -> Result<Vec<(String, AnyArray)>> {
        let mut arrays = Vec::with_capacity(self.inputs.len());
        for (name, operand) in &self.inputs {
            if arrays.iter().any(|(bound, _)| bound == name) {
                let message = format!("{name} is bound twice");
                return Err(Error::new(ErrorCode::InvalidArgument, message));
            }
            arrays.push((name.clone(), operand.resolve(&self.cluster).await?));
        }
        Ok(arrays)
    }

    fn parse(&self, bound: &[(String, AnyArray)]) -> Result<(Option<String>, Program), Failure> {
        match &self.source {
            Source::Program(program) => Ok((None, (**program).clone())),
            Source::Text(text) => {
                let inputs: Vec<Input> = bound
                    .iter()
                    .map(|(name, array)| Input { name: name.clone(), dtype: array.dtype() })
                    .collect();
                let parsed = expr::parse(text, &inputs)?;
                Ok((parsed.target, parsed.program))
            }
        }
    }

    /// The arrays that the program reads, in its order.
    fn used(
        &self,
        program: &Program,
        bound: &[(String, AnyArray)],
    ) -> Result<Vec<(String, AnyArray)>> {
        let used = program.inputs().iter().map(|input| {
            let array = bound.iter().find(|(name, _)| *name == input.name).ok_or_else(|| {
                let message = format!("{} is bound to no array", input.name);
                Error::new(ErrorCode::InvalidArgument, message)
            })?;
            if array.1.dtype() != input.dtype {
                let message = format!(
                    "{} is {} in the expression, array {} is {}",
                    input.name,
                    input.dtype,
                    array.1.name(),
                    array.1.dtype()
                );
                return Err(Error::new(ErrorCode::DtypeMismatch, message));
            }
            Ok(array.clone())
        });
        used.collect()
    }

    /// The array that the value goes to, made when there is none; nothing for a reduction.
    async fn resolve_output(
        &self,
        target: Option<&str>,
        program: &Program,
        bound: &[(String, AnyArray)],
    ) -> Result<Output> {
        let invalid = |message: String| Error::new(ErrorCode::InvalidArgument, message);
        let (name, operand) = match (&self.output, program.reduction()) {
            (None, Some(_)) => return Ok(Output { array: None, made: false }),
            (Some(_), Some(_)) => {
                return Err(invalid("a reduction gives one value and has no output array".into())
                    .help("leave the output away; the value is in the report"));
            }
            (None, None) => {
                return Err(invalid("the expression has no output array".into())
                    .help("say where its elements go, or reduce them: sum(..)"));
            }
            (Some((name, operand)), None) => (name, operand),
        };
        if let (Some(name), Some(target)) = (name, target)
            && name != target
        {
            let message = format!("the expression assigns to {target}, the output is {name}");
            return Err(invalid(message));
        }
        let name = name.as_deref().or(target).unwrap_or("out").to_owned();
        let dtype = program.output_dtype();
        let (array, made) = match operand.find(&self.cluster).await? {
            Some(array) => (array, false),
            None => self.create_output(operand, dtype, bound).await?,
        };
        if array.dtype() != dtype {
            let message = format!(
                "the expression gives {dtype}, array {} is {}",
                array.name(),
                array.dtype()
            );
            return Err(Error::new(ErrorCode::DtypeMismatch, message)
                .help(format!("convert the value: {}(..)", array.dtype())));
        }
        if let Some((_, first)) = bound.first() {
            check_beside(first.descriptor(), array.descriptor())?;
        }
        Ok(Output { array: Some((name, array)), made })
    }

    async fn create_output(
        &self,
        operand: &Operand,
        dtype: DType,
        bound: &[(String, AnyArray)],
    ) -> Result<(AnyArray, bool)> {
        let Operand::Name(output) = operand else {
            return Err(Error::new(ErrorCode::Internal, "an array at hand does not exist"));
        };
        let name = ArrayName::new(output)?;
        let Some((_, first)) = bound.first() else {
            let message = format!("array {name}: not found, and no input to make it like");
            return Err(Error::new(ErrorCode::NotFound, message).help("create it first"));
        };
        // All inputs must fit before anything is made.
        for (_, other) in bound {
            check_beside(first.descriptor(), other.descriptor())?;
        }
        let made = self.cluster.array(output).like(first.name()).shape(first.shape());
        match made.create_any(dtype).await {
            // Somebody else made it in the meantime: take theirs.
            Err(error) if error.code() == ErrorCode::AlreadyExists => {
                Ok((self.cluster.open_any(output).await?, false))
            }
            made => Ok((made?, true)),
        }
    }
}

/// A program that reduces one array.
pub(crate) fn reduction(
    name: &str,
    dtype: DType,
    reduction: Reduction,
) -> Result<Program, Failure> {
    let inputs = vec![Input { name: name.to_owned(), dtype }];
    Program::new(inputs, vec![Op::Input(0)], NodeIndex(0), Some(reduction))
}

/// Folds the partial results of all shards; each shard must be there exactly once.
fn reduced(
    program: &Program,
    reduction: Reduction,
    shards: u64,
    partials: &[ShardPartial],
) -> Result<Scalar, Failure> {
    let complete = partials.len() as u64 == shards
        && partials.iter().zip(0u64..).all(|(partial, shard)| partial.shard == shard);
    if !complete {
        let message = format!("{} partial results of {shards} shards", partials.len());
        return Err(Failure::new(ErrorCode::Conflict, message)
            .help("the placement changed meanwhile: run it again"));
    }
    let element = program.dtype(program.root());
    let accumulator = reduction.accumulator_dtype(element);
    let values: Result<Vec<(ShardIndex, Scalar)>, Failure> = partials
        .iter()
        .map(|partial| {
            let value = Scalar::from_le_bytes(accumulator, &partial.data)?;
            Ok((ShardIndex(partial.shard), value))
        })
        .collect();
    let combined = expr::combine(reduction, element, &values?)?.ok_or_else(|| {
        Failure::new(
            ErrorCode::InvalidArgument,
            "an empty array has no smallest or largest element",
        )
    })?;
    Ok(expr::finish(reduction, element, combined))
}
