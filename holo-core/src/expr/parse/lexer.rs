//! Text to tokens.

use super::Problem;
use super::operand::Literal;

/// A place in the text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    /// From the start of `self` to the end of `other`.
    pub(super) fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end.max(self.end) }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Integer,
    Float,
    Name,
    Symbol(Symbol),
    /// A semicolon, or a newline outside parentheses.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    Open,
    Close,
    Comma,
    Assign,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Pipe,
    Caret,
    Ampersand,
    ShiftLeft,
    ShiftRight,
    Plus,
    Minus,
    Star,
    Slash,
    DoubleSlash,
    Percent,
    Tilde,
    Power,
}

/// Longer ones first.
const SYMBOLS: [(&str, Symbol); 23] = [
    ("==", Symbol::Equal),
    ("!=", Symbol::NotEqual),
    ("<=", Symbol::LessEqual),
    (">=", Symbol::GreaterEqual),
    ("<<", Symbol::ShiftLeft),
    (">>", Symbol::ShiftRight),
    ("//", Symbol::DoubleSlash),
    ("**", Symbol::Power),
    ("(", Symbol::Open),
    (")", Symbol::Close),
    (",", Symbol::Comma),
    ("=", Symbol::Assign),
    ("<", Symbol::Less),
    (">", Symbol::Greater),
    ("|", Symbol::Pipe),
    ("^", Symbol::Caret),
    ("&", Symbol::Ampersand),
    ("+", Symbol::Plus),
    ("-", Symbol::Minus),
    ("*", Symbol::Star),
    ("/", Symbol::Slash),
    ("%", Symbol::Percent),
    ("~", Symbol::Tilde),
];

pub(super) fn tokenize(text: &str) -> Result<Vec<Token>, Problem> {
    let mut tokens = Vec::new();
    let (mut at, mut depth) = (0usize, 0usize);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, len) = match first {
            '\n' | ';' if depth == 0 || first == ';' => (Some(TokenKind::End), 1),
            '#' => (None, rest.find('\n').unwrap_or(rest.len())),
            c if c.is_whitespace() => (None, c.len_utf8()),
            c if c.is_ascii_digit() || c == '.' => {
                let (kind, len) = number_ahead(rest);
                (Some(kind), len)
            }
            c if c.is_ascii_alphabetic() || c == '_' => (Some(TokenKind::Name), run(rest, is_word)),
            _ => match SYMBOLS.iter().find(|(symbol, _)| rest.starts_with(symbol)) {
                Some((symbol, kind)) => (Some(TokenKind::Symbol(*kind)), symbol.len()),
                None => return Err(stray(first, rest, at)),
            },
        };
        match kind {
            Some(TokenKind::Symbol(Symbol::Open)) => depth += 1,
            Some(TokenKind::Symbol(Symbol::Close)) => depth = depth.saturating_sub(1),
            _ => {}
        }
        let span = Span { start: at, end: at + len };
        if let Some(kind) = kind {
            refuse_words(kind, &text[at..at + len], span)?;
            tokens.push(Token { kind, span });
        }
        at += len;
    }
    Ok(tokens)
}

/// The value of a number's token.
pub(super) fn number(text: &str, token: &Token) -> Result<Literal, Problem> {
    let digits = text.get(token.span.start..token.span.end).unwrap_or_default().replace('_', "");
    let literal = if token.kind == TokenKind::Integer {
        let parsed = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => i128::from_str_radix(&digits[2..], 16),
            Some("0b") => i128::from_str_radix(&digits[2..], 2),
            Some("0o") => i128::from_str_radix(&digits[2..], 8),
            _ => digits.parse(),
        };
        parsed.ok().map(Literal::Integer)
    } else {
        digits.parse().ok().map(Literal::Float)
    };
    literal.ok_or_else(|| Problem::new(token.span, "this is no number that can be held"))
}

/// Kind and length of the number that `rest` starts with. Letters that cling to it belong to it, so that `2x` is one bad
/// number and not two tokens.
fn number_ahead(rest: &str) -> (TokenKind, usize) {
    let bytes = rest.as_bytes();
    let prefixed =
        bytes.first() == Some(&b'0') && bytes.get(1).is_some_and(|byte| b"xXbBoO".contains(byte));
    let mut float = false;
    let mut len = 0;
    while let Some(byte) = bytes.get(len) {
        let signed_exponent = !prefixed
            && (*byte == b'+' || *byte == b'-')
            && len > 0
            && bytes[len - 1].eq_ignore_ascii_case(&b'e')
            && bytes.get(len + 1).is_some_and(u8::is_ascii_digit);
        if !(byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'.' || signed_exponent) {
            break;
        }
        float |= !prefixed && (*byte == b'.' || byte.eq_ignore_ascii_case(&b'e'));
        len += 1;
    }
    (if float { TokenKind::Float } else { TokenKind::Integer }, len)
}

fn run(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !belongs(c)).unwrap_or(rest.len())
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn stray(first: char, rest: &str, at: usize) -> Problem {
    let problem = Problem::new(
        Span { start: at, end: at + first.len_utf8() },
        format!("{first:?} means nothing here"),
    );
    match first {
        '!' => problem.help("not equal is !=, not is ~"),
        '[' => problem.help("an expression is about whole arrays; slice them where they are read"),
        '"' | '\'' => problem.help("dtypes are written without quotes: float32(x)"),
        '@' => problem.help("matrix products are not there yet"),
        _ if rest.is_ascii() => problem,
        _ => problem.help("names are made of a-z A-Z 0-9 _"),
    }
}

fn refuse_words(kind: TokenKind, word: &str, span: Span) -> Result<(), Problem> {
    let instead = match word {
        "and" => "&",
        "or" => "|",
        "not" => "~",
        "if" | "else" => "where(condition, yes, no)",
        _ => return Ok(()),
    };
    if kind != TokenKind::Name {
        return Ok(());
    }
    Err(Problem::new(span, format!("{word:?} does not work element by element"))
        .help(format!("use {instead}, with parentheses around comparisons")))
}
