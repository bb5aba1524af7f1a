//! What stands in the parentheses of `#[kernel(..)]`.

use syn::{
    Expr, Path, Result, Token,
    parse::{Parse, ParseStream},
};

mod keyword {
    syn::custom_keyword!(map);
    syn::custom_keyword!(reduce);
    syn::custom_keyword!(start);
    syn::custom_keyword!(combine);
}

/// The two sorts of kernels.
pub(crate) enum Kind {
    /// Once per tile.
    Map,
    /// With a partial result that starts as `start` and is joined by `combine`.
    Reduce { start: Box<Expr>, combine: Path },
}

impl Parse for Kind {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let look = input.lookahead1();
        if look.peek(keyword::map) {
            input.parse::<keyword::map>()?;
            return Ok(Self::Map);
        }
        if !look.peek(keyword::reduce) {
            return Err(look.error());
        }
        input.parse::<keyword::reduce>()?;
        input.parse::<Token![,]>()?;
        input.parse::<keyword::start>()?;
        input.parse::<Token![=]>()?;
        let start = Box::new(input.parse()?);
        input.parse::<Token![,]>()?;
        input.parse::<keyword::combine>()?;
        input.parse::<Token![=]>()?;
        let combine = input.parse()?;
        input.parse::<Option<Token![,]>>()?;
        Ok(Self::Reduce { start, combine })
    }
}
