//! The Python literal of a header: a dict with three known keys.

use super::unsupported;
use crate::{Failure, limits};

/// What the dict says, unchecked.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pub(super) descr: &'a str,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<u64>,
}

impl<'a> Fields<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Failure> {
        let mut cursor = Cursor { rest: text };
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        cursor.expect('{')?;
        while !cursor.eat('}') {
            let key = cursor.string()?;
            cursor.expect(':')?;
            let fresh = match key {
                "descr" => descr.replace(cursor.descr()?).is_none(),
                "fortran_order" => fortran_order.replace(cursor.bool()?).is_none(),
                "shape" => shape.replace(cursor.shape()?).is_none(),
                _ => return Err(unsupported(format!("the header has a key {key:?}"))),
            };
            if !fresh {
                return Err(unsupported(format!("the header has two keys {key:?}")));
            }
            if !cursor.eat(',') {
                cursor.expect('}')?;
                break;
            }
        }
        if !cursor.rest.trim().is_empty() {
            return Err(unsupported("something follows the header's dict".to_owned()));
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => {
                Ok(Self { descr, fortran_order, shape })
            }
            _ => Err(unsupported("the header lacks descr, fortran_order or shape".to_owned())),
        }
    }
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, wanted: char) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), Failure> {
        if self.eat(wanted) { Ok(()) } else { Err(self.unexpected(&wanted.to_string())) }
    }

    fn string(&mut self) -> Result<&'a str, Failure> {
        let rest = self.rest.trim_start();
        let quote = rest.chars().next().filter(|c| *c == '\'' || *c == '"');
        let body = quote.and_then(|quote| rest[1..].split_once(quote));
        let (body, rest) = body.ok_or_else(|| self.unexpected("a quoted text"))?;
        self.rest = rest;
        Ok(body)
    }

    fn descr(&mut self) -> Result<&'a str, Failure> {
        if self.rest.trim_start().starts_with('[') {
            return Err(unsupported(
                "elements are records of several fields (a structured dtype)".to_owned(),
            )
            .help("save one field at a time"));
        }
        self.string()
    }

    fn bool(&mut self) -> Result<bool, Failure> {
        let rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(self.unexpected("True or False"))
    }

    fn shape(&mut self) -> Result<Vec<u64>, Failure> {
        self.expect('(')?;
        let mut dims = Vec::new();
        while !self.eat(')') {
            let rest = self.rest.trim_start();
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let dim = rest[..end].parse().ok().ok_or_else(|| self.unexpected("an extent"))?;
            if dims.len() > limits::DIMS_MAX {
                return Err(unsupported(format!("more than {} axes", limits::DIMS_MAX)));
            }
            dims.push(dim);
            // Python 2 wrote long integers with an L.
            self.rest = rest[end..].trim_start_matches('L');
            if !self.eat(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(dims)
    }

    fn unexpected(&self, wanted: &str) -> Failure {
        let seen: String = self.rest.trim_start().chars().take(12).collect();
        unsupported(format!("the header has {seen:?} where {wanted} was expected"))
    }
}
