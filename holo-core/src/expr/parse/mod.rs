//! Text to [`Program`]: NumPy's operators, precedence and promotion.
//!
//! ```text
//! statements = statement (";" or newline) ... ; the last one is the value, earlier ones name temporaries
//! statement  = [name "="] expression
//! expression = operands with, from loose to tight:  == != < <= > >=  |  ^  &  << >>  + -  * / // %  unary - + ~  **
//! operand    = number, name, name "(" expression, ... ")", "(" expression ")"
//! ```
//!
//! Comparisons do not chain. `#` starts a comment. Names are inputs, temporaries, then `i` (the flat index), `pi`, `e`,
//! `true`, `false`, `inf`, `nan`. Functions: `sqrt exp log sin cos tanh abs floor ceil trunc round minimum maximum
//! min(a, b) max(a, b) where(condition, yes, no) index()`, a dtype's name as a cast, `astype(x, dtype)`, and at the root
//! `sum prod min max` of one argument.
//!
//! **Literals are weak**, as in NumPy 2: an integer takes the dtype of the integers or floats beside it and is refused
//! where it does not fit; a float takes `float32` beside `float32` and makes `float64` of integers.
//!
//! **Not as NumPy:** roots, exponentials and their like of small integers are `float64`, not `float16` or `float32`;
//! an integer to the power of anything but a literal from 0 to 8 is refused.

mod lexer;
mod operand;
mod operators;

use std::collections::BTreeMap;

use lexer::{Span, Symbol, Token, TokenKind, tokenize};
use operand::{Literal, Operand, Value};

use crate::expr::builder::Builder;
use crate::expr::{BinaryOp, CompareOp, Input, Op, Program, Reduction, UnaryOp};
use crate::{DType, ErrorCode, Failure, Scalar, limits, nearest};

/// What a text says.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The name that the value is assigned to, if any.
    pub target: Option<String>,
    /// The value.
    pub program: Program,
}

/// Reads an expression over `inputs`; the program's inputs are these, in this order.
///
/// # Errors
///
/// [`ErrorCode::ExpressionInvalid`] with a line that points at the place, [`ErrorCode::TooLarge`] past
/// [`limits::EXPR_TEXT_BYTES_MAX`] bytes, [`limits::EXPR_DEPTH_MAX`] levels or [`limits::EXPR_NODES_MAX`] nodes.
pub fn parse(text: &str, inputs: &[Input]) -> Result<Parsed, Failure> {
    if text.len() > limits::EXPR_TEXT_BYTES_MAX {
        let message = format!("an expression of {} bytes", text.len());
        return Err(Failure::new(ErrorCode::TooLarge, message));
    }
    if inputs.len() >= limits::RUN_OPERANDS_MAX {
        let message = format!("{} inputs", inputs.len());
        return Err(Failure::new(ErrorCode::TooLarge, message));
    }
    Parser::new(text, inputs)
        .and_then(Parser::program)
        .map_err(|problem| problem.into_failure(text))
}

/// What is wrong, and where.
#[derive(Debug)]
struct Problem {
    code: ErrorCode,
    message: String,
    help: Option<String>,
    span: Span,
}

impl Problem {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self { code: ErrorCode::ExpressionInvalid, message: message.into(), help: None, span }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the line of the text and a line of carets below the place.
    fn into_failure(self, text: &str) -> Failure {
        let start = self.span.start.min(text.len());
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line = &text[line_start..line_end];
        let indent: String =
            text[line_start..start].chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let end = self.span.end.clamp(start, line_end);
        let width = text[start..end].chars().count().max(1);
        let message = format!("{}\n  {line}\n  {indent}{}", self.message, "^".repeat(width));
        let failure = Failure::new(self.code, message);
        match self.help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    inputs: &'a [Input],
    names: BTreeMap<String, Value>,
    builder: Builder,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, inputs: &'a [Input]) -> Result<Self, Problem> {
        let mut builder = Builder::default();
        let mut names = BTreeMap::new();
        for (index, input) in (0u16..).zip(inputs) {
            let node = builder.push(Op::Input(index));
            names.insert(input.name.clone(), Value::Typed(node, input.dtype));
        }
        let tokens = tokenize(text)?;
        Ok(Self { text, tokens, next: 0, depth: 0, inputs, names, builder })
    }

    fn program(mut self) -> Result<Parsed, Problem> {
        loop {
            while self.eat(TokenKind::End).is_some() {}
            let target = self.assignment_target();
            if let Some((reduction, span)) = self.reduction_ahead() {
                return self.reduced(target, reduction, span);
            }
            let value = self.expression(0)?;
            let last = self.peek().is_none() || self.rest_is_empty();
            match (self.eat(TokenKind::End), last) {
                (_, true) => return self.finish(target, value, None),
                (Some(_), false) => match target {
                    Some(name) => {
                        self.names.insert(name, value.value);
                    }
                    None => {
                        return Err(Problem::new(value.span, "this value goes nowhere").help(
                            "give it a name: t = ...; only the last statement may have none",
                        ));
                    }
                },
                (None, false) => return Err(self.unexpected()),
            }
        }
    }

    /// `name =` at the start of a statement.
    fn assignment_target(&mut self) -> Option<String> {
        let name = self.tokens.get(self.next)?;
        let equals = self.tokens.get(self.next + 1)?;
        let found =
            name.kind == TokenKind::Name && equals.kind == TokenKind::Symbol(Symbol::Assign);
        let name = found.then(|| self.slice(name.span).to_owned());
        self.next += if found { 2 } else { 0 };
        name
    }

    /// `sum(` and its like, when it is not the two-argument `min` or `max`.
    fn reduction_ahead(&self) -> Option<(Reduction, Span)> {
        let name = self.tokens.get(self.next).filter(|token| token.kind == TokenKind::Name)?;
        let reduction = reduction(self.slice(name.span))?;
        let mut depth = 0usize;
        for (at, token) in self.tokens.iter().enumerate().skip(self.next + 1) {
            match token.kind {
                TokenKind::Symbol(Symbol::Open) => depth += 1,
                TokenKind::Symbol(Symbol::Close) if depth == 1 => {
                    let rest = &self.tokens[at + 1..];
                    let root = rest.iter().all(|token| token.kind == TokenKind::End);
                    return root.then_some((reduction, name.span));
                }
                TokenKind::Symbol(Symbol::Close) => depth = depth.saturating_sub(1),
                TokenKind::Symbol(Symbol::Comma) if depth == 1 => return None,
                _ if depth == 0 => return None,
                _ => {}
            }
        }
        None
    }

    fn reduced(
        mut self,
        target: Option<String>,
        reduction: Reduction,
        name: Span,
    ) -> Result<Parsed, Problem> {
        self.next += 1;
        let mut arguments = self.arguments()?;
        match (arguments.pop(), arguments.is_empty()) {
            (Some(value), true) => self.finish(target, value, Some(reduction)),
            _ => Err(Problem::new(name, format!("{} takes one argument", self.slice(name)))),
        }
    }

    fn finish(
        mut self,
        target: Option<String>,
        value: Operand,
        reduction: Option<Reduction>,
    ) -> Result<Parsed, Problem> {
        let value = self.settle(value)?;
        let (root, _) = self.typed(value)?;
        let span = value.span;
        let (ops, root) = self.builder.into_ops(root);
        let program =
            Program::new(self.inputs.to_vec(), ops, root, reduction).map_err(|failure| {
                Problem { code: failure.code, message: failure.message, help: failure.help, span }
            })?;
        Ok(Parsed { target, program })
    }

    /// Operators that bind at least as tightly as `level`, by precedence climbing.
    fn expression(&mut self, level: u8) -> Result<Operand, Problem> {
        self.deeper(|parser| {
            let mut left = parser.unary()?;
            let mut compared = false;
            while let Some((operator, tightness, span)) = parser.operator_ahead(level) {
                let comparison = matches!(operator, Operator::Compare(_));
                if comparison && compared {
                    return Err(Problem::new(span, "comparisons do not chain")
                        .help("write (a < b) & (b < c)"));
                }
                compared |= comparison;
                parser.next += 1;
                let right = parser.expression(tightness + 1)?;
                left = parser.apply(operator, left, right, span)?;
            }
            Ok(left)
        })
    }

    fn operator_ahead(&self, level: u8) -> Option<(Operator, u8, Span)> {
        let token = self.peek()?;
        let TokenKind::Symbol(symbol) = token.kind else { return None };
        let (operator, tightness) = infix(symbol)?;
        (tightness >= level).then_some((operator, tightness, token.span))
    }

    fn unary(&mut self) -> Result<Operand, Problem> {
        let Some(token) = self.peek() else { return Err(self.unexpected()) };
        let (kind, span) = (token.kind, token.span);
        let sign = match kind {
            TokenKind::Symbol(Symbol::Minus) => Some(UnaryOp::Neg),
            TokenKind::Symbol(Symbol::Tilde) => Some(UnaryOp::Not),
            TokenKind::Symbol(Symbol::Plus) => None,
            _ => return self.power(),
        };
        self.next += 1;
        let operand = self.deeper(Self::unary)?;
        match sign {
            Some(op) => self.apply_unary(op, operand, span),
            None => Ok(Operand { span: span.to(operand.span), ..operand }),
        }
    }

    /// `**` binds tighter than a sign on its left and looser than one on its right, and to the right.
    fn power(&mut self) -> Result<Operand, Problem> {
        let base = self.atom()?;
        let Some(operator) = self.eat(TokenKind::Symbol(Symbol::Power)) else { return Ok(base) };
        let exponent = self.deeper(Self::unary)?;
        self.apply_power(base, exponent, operator)
    }

    fn atom(&mut self) -> Result<Operand, Problem> {
        let Some(token) = self.tokens.get(self.next).copied() else {
            return Err(self.unexpected());
        };
        match token.kind {
            TokenKind::Integer | TokenKind::Float => {
                self.next += 1;
                let literal = lexer::number(self.text, &token)?;
                Ok(Operand { value: Value::Weak(literal), span: token.span })
            }
            TokenKind::Name => {
                self.next += 1;
                match self.peek().map(|token| token.kind) {
                    Some(TokenKind::Symbol(Symbol::Open)) => self.call(token.span),
                    _ => self.name(token.span),
                }
            }
            TokenKind::Symbol(Symbol::Open) => {
                self.next += 1;
                let inner = self.expression(0)?;
                let close = self.expect(Symbol::Close, "a closing parenthesis")?;
                Ok(Operand { span: token.span.to(close), ..inner })
            }
            _ => Err(self.unexpected()),
        }
    }

    fn name(&mut self, span: Span) -> Result<Operand, Problem> {
        let name = self.slice(span);
        if let Some(value) = self.names.get(name) {
            return Ok(Operand { value: *value, span });
        }
        let value = match name {
            "i" => self.index(),
            "pi" => Value::Weak(Literal::Float(std::f64::consts::PI)),
            "e" => Value::Weak(Literal::Float(std::f64::consts::E)),
            "inf" => Value::Weak(Literal::Float(f64::INFINITY)),
            "nan" => Value::Weak(Literal::Float(f64::NAN)),
            "true" | "True" => self.constant(Scalar::bool(true)),
            "false" | "False" => self.constant(Scalar::bool(false)),
            _ => return Err(self.unknown_name(name, span)),
        };
        Ok(Operand { value, span })
    }

    fn unknown_name(&self, name: &str, span: Span) -> Problem {
        let problem = Problem::new(span, format!("unknown name {name:?}"));
        if is_function(name) {
            return problem.help(format!("{name} is a function: {name}(...)"));
        }
        let constants = ["i", "pi", "e", "inf", "nan", "true", "false"];
        let known = self.names.keys().map(String::as_str).chain(constants);
        match nearest(name, known) {
            Some(near) => problem.help(format!("did you mean {near:?}?")),
            None => problem.help("name it as an input, or give it a value before"),
        }
    }

    /// The arguments of a call, from `(` to `)`.
    fn arguments(&mut self) -> Result<Vec<Operand>, Problem> {
        self.expect(Symbol::Open, "an opening parenthesis")?;
        let mut arguments = Vec::new();
        if self.eat(TokenKind::Symbol(Symbol::Close)).is_some() {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression(0)?);
            if self.eat(TokenKind::Symbol(Symbol::Comma)).is_some() {
                continue;
            }
            self.expect(Symbol::Close, "a comma or a closing parenthesis")?;
            return Ok(arguments);
        }
    }

    fn call(&mut self, name: Span) -> Result<Operand, Problem> {
        let function = self.slice(name);
        if function == "astype" {
            return self.astype(name);
        }
        if !is_function(function) && DType::parse(function).is_err() {
            return Err(unknown_function(function, name));
        }
        let function = function.to_owned();
        let arguments = self.arguments()?;
        let end = self.tokens.get(self.next - 1).map_or(name, |token| token.span);
        self.apply_function(&function, &arguments, name.to(end))
    }

    /// `astype(x, float32)`.
    fn astype(&mut self, name: Span) -> Result<Operand, Problem> {
        self.expect(Symbol::Open, "an opening parenthesis")?;
        let value = self.expression(0)?;
        self.expect(Symbol::Comma, "a comma and a dtype")?;
        let token = self.tokens.get(self.next).copied();
        let dtype = token.and_then(|token| DType::parse(self.slice(token.span)).ok());
        let (Some(token), Some(dtype)) = (token, dtype) else {
            let problem = Problem::new(token.map_or(name, |token| token.span), "this is no dtype");
            let known: Vec<_> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
            return Err(problem.help(format!("use one of {}", known.join(", "))));
        };
        self.next += 1;
        self.expect(Symbol::Close, "a closing parenthesis")?;
        self.apply_function(dtype.name(), &[value], name.to(token.span))
    }

    fn deeper<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        self.depth += 1;
        // A pair of parentheses takes two levels here: one for what is inside, one for its operators.
        if self.depth > 2 * limits::EXPR_DEPTH_MAX {
            let span = self.peek().map_or_else(Span::default, |token| token.span);
            let problem = Problem::new(span, "it is nested too deeply");
            return Err(Problem { code: ErrorCode::TooLarge, ..problem }
                .help("name parts of it first: t = ...; ... t ..."));
        }
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn expect(&mut self, symbol: Symbol, what: &str) -> Result<Span, Problem> {
        match self.eat(TokenKind::Symbol(symbol)) {
            Some(span) => Ok(span),
            None => Err(Problem { message: format!("{what} is missing"), ..self.unexpected() }),
        }
    }

    fn eat(&mut self, kind: TokenKind) -> Option<Span> {
        let token = self.tokens.get(self.next).filter(|token| token.kind == kind)?;
        self.next += 1;
        Some(token.span)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn rest_is_empty(&self) -> bool {
        self.tokens.iter().skip(self.next).all(|token| token.kind == TokenKind::End)
    }

    fn unexpected(&self) -> Problem {
        let Some(token) = self.peek() else {
            let end = self.text.trim_end().len();
            let problem = Problem::new(Span { start: end, end: end + 1 }, "something is missing");
            return problem.help("an operand was expected");
        };
        let problem = Problem::new(token.span, "this does not belong here");
        match token.kind {
            TokenKind::Symbol(Symbol::Assign) => {
                problem.help("compare with ==; x = ... is for the start of a statement")
            }
            _ => problem,
        }
    }

    fn slice(&self, span: Span) -> &'a str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }
}

/// What stands between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Arithmetic(BinaryOp),
    Compare(CompareOp),
}

/// The infix operators but `**`, with how tightly they bind.
fn infix(symbol: Symbol) -> Option<(Operator, u8)> {
    let arithmetic = |op, tightness| Some((Operator::Arithmetic(op), tightness));
    let compare = |op| Some((Operator::Compare(op), 1));
    match symbol {
        Symbol::Equal => compare(CompareOp::Eq),
        Symbol::NotEqual => compare(CompareOp::Ne),
        Symbol::Less => compare(CompareOp::Lt),
        Symbol::LessEqual => compare(CompareOp::Le),
        Symbol::Greater => compare(CompareOp::Gt),
        Symbol::GreaterEqual => compare(CompareOp::Ge),
        Symbol::Pipe => arithmetic(BinaryOp::Or, 2),
        Symbol::Caret => arithmetic(BinaryOp::Xor, 3),
        Symbol::Ampersand => arithmetic(BinaryOp::And, 4),
        Symbol::ShiftLeft => arithmetic(BinaryOp::Shl, 5),
        Symbol::ShiftRight => arithmetic(BinaryOp::Shr, 5),
        Symbol::Plus => arithmetic(BinaryOp::Add, 6),
        Symbol::Minus => arithmetic(BinaryOp::Sub, 6),
        Symbol::Star => arithmetic(BinaryOp::Mul, 7),
        Symbol::Slash => arithmetic(BinaryOp::Div, 7),
        Symbol::DoubleSlash => arithmetic(BinaryOp::FloorDiv, 7),
        Symbol::Percent => arithmetic(BinaryOp::Rem, 7),
        _ => None,
    }
}

fn reduction(name: &str) -> Option<Reduction> {
    match name {
        "sum" => Some(Reduction::Sum),
        "prod" => Some(Reduction::Prod),
        "min" => Some(Reduction::Min),
        "max" => Some(Reduction::Max),
        _ => None,
    }
}

const FUNCTIONS: [&str; 20] = [
    "sqrt", "exp", "log", "sin", "cos", "tanh", "abs", "floor", "ceil", "trunc", "round",
    "minimum", "maximum", "min", "max", "where", "index", "sum", "prod", "astype",
];

fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

fn unknown_function(name: &str, span: Span) -> Problem {
    let problem = Problem::new(span, format!("unknown function {name:?}"));
    let advice = match name {
        "mean" | "average" => "use sum(x) and divide by the number of elements",
        "var" | "std" => "use sum(x*x) and sum(x)",
        "any" => "use max(x), which is true where any element is",
        "all" => "use min(x), which is true where every element is",
        "dot" | "vdot" | "inner" => "use sum(a * b)",
        "tan" => "use sin(x) / cos(x)",
        "log2" | "log10" | "log1p" => "use log(x) and divide by the logarithm of the base",
        "sinh" | "cosh" => "use exp(x) and exp(-x)",
        "power" | "pow" => "use x ** y",
        "float" => "use float64(x)",
        "int" => "use int64(x)",
        "square" => "use x ** 2",
        _ => {
            let known = FUNCTIONS.into_iter().chain(DType::ALL.iter().map(|dtype| dtype.name()));
            return match nearest(name, known) {
                Some(near) => problem.help(format!("did you mean {near:?}?")),
                None => problem.help(format!("there are {}", FUNCTIONS.join(", "))),
            };
        }
    };
    problem.help(advice)
}

#[cfg(test)]
mod tests;
