//! The attribute macros of `holo-guest`: each writes the exports of ABI `holo` v1 around a plain function.
//!
//! They are re-exported by `holo-guest`, which documents them with the types they work on. The exports exist only for
//! wasm32; elsewhere the function stays as it is, so kernels can be tested natively.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::{
    Error, Expr, FnArg, Ident, ItemFn, Path, Result, Token, Type, TypeReference,
    parse::{Parse, ParseStream},
    parse_macro_input,
};

mod keyword {
    syn::custom_keyword!(map);
    syn::custom_keyword!(reduce);
    syn::custom_keyword!(start);
    syn::custom_keyword!(combine);
}

/// Makes a function the kernel of a module.
///
/// `#[kernel(map)]` runs it once per tile. `#[kernel(reduce, start = EXPR, combine = PATH)]` gives it the partial result
/// of the shard so far as its first parameter, `&mut S`; `start` is that of no elements, a constant, and `combine` a
/// `fn(S, S) -> S` that joins those of two parts. The other parameters are tiles, in the order in which the run binds
/// its operands.
#[proc_macro_attribute]
pub fn kernel(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let kind = parse_macro_input!(attribute as Kind);
    let function = parse_macro_input!(item as ItemFn);
    let exports = match &kind {
        Kind::Map => map_exports(&function),
        Kind::Reduce { start, combine } => reduce_exports(&function, start, combine),
    };
    with_exports(&function, exports)
}

/// Makes a function of `&[u8]` the task of a module: a call without arrays.
///
/// It returns nothing, or a `Result<(), &'static str>` whose error ends the call with that message. What it hands to
/// `holo_guest::result` is the output of the call.
#[proc_macro_attribute]
pub fn task(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let exports = if attribute.is_empty() {
        task_exports(&function)
    } else {
        Err(Error::new_spanned(&function.sig, "#[task] takes no arguments"))
    };
    with_exports(&function, exports)
}

enum Kind {
    Map,
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

fn with_exports(function: &ItemFn, exports: Result<Tokens>) -> TokenStream {
    let exports = match exports {
        Ok(exports) => quote! {
            #[cfg(target_arch = "wasm32")]
            const _: () = {
                #[unsafe(no_mangle)]
                pub static holo_abi: i32 = 1;
                #exports
            };
        },
        Err(error) => error.into_compile_error(),
    };
    quote!(#function #exports).into()
}

fn map_exports(function: &ItemFn) -> Result<Tokens> {
    let name = &function.sig.ident;
    let (names, types) = arguments(function, 0)?;
    Ok(quote! {
        #[unsafe(no_mangle)]
        pub extern "C" fn holo_tile(descriptor: *const u8) -> i32 {
            // SAFETY: the host gives a descriptor of ABI v1, whose windows stay as they are during this call.
            let mut operands = unsafe { ::holo_guest::export::Operands::new(descriptor) };
            #(let #names = <#types as ::holo_guest::export::Argument>::take(&mut operands);)*
            operands.finish();
            #name(#(#names),*);
            0
        }
    })
}

fn reduce_exports(function: &ItemFn, start: &Expr, combine: &Path) -> Result<Tokens> {
    let name = &function.sig.ident;
    let state = match function.sig.inputs.first() {
        Some(FnArg::Typed(argument)) => match &*argument.ty {
            Type::Reference(TypeReference { mutability: Some(_), elem, .. }) => elem,
            other => {
                return Err(Error::new_spanned(
                    other,
                    "the first parameter is the partial result, `&mut S`",
                ));
            }
        },
        _ => {
            return Err(Error::new_spanned(
                &function.sig,
                "the first parameter is the partial result, `&mut S`",
            ));
        }
    };
    let (names, types) = arguments(function, 1)?;
    Ok(quote! {
        static PARTIAL: ::holo_guest::export::Partial<#state> = ::holo_guest::export::Partial::new(#start);

        #[unsafe(no_mangle)]
        pub extern "C" fn holo_tile(descriptor: *const u8) -> i32 {
            // SAFETY: the host gives a descriptor of ABI v1, whose windows stay as they are during this call.
            let mut operands = unsafe { ::holo_guest::export::Operands::new(descriptor) };
            #(let #names = <#types as ::holo_guest::export::Argument>::take(&mut operands);)*
            operands.finish();
            PARTIAL.update(|partial| #name(partial, #(#names),*));
            0
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn holo_finish(out: *mut u8, cap: usize) -> i32 {
            // SAFETY: the host gives room for `cap` bytes.
            unsafe { ::holo_guest::export::write(PARTIAL.value(), out, cap) }
        }

        #[unsafe(no_mangle)]
        pub extern "C" fn holo_combine(
            a: *const u8, a_len: usize, b: *const u8, b_len: usize, out: *mut u8, cap: usize,
        ) -> i32 {
            // SAFETY: the host gives two partial results and room for `cap` bytes.
            let (a, b) = unsafe {
                (::holo_guest::export::read::<#state>(a, a_len), ::holo_guest::export::read::<#state>(b, b_len))
            };
            let joined: #state = #combine(a, b);
            // SAFETY: as above.
            unsafe { ::holo_guest::export::write(joined, out, cap) }
        }
    })
}

fn task_exports(function: &ItemFn) -> Result<Tokens> {
    let name = &function.sig.ident;
    let (names, _) = arguments(function, 0)?;
    if names.len() != 1 {
        return Err(Error::new_spanned(
            &function.sig.inputs,
            "a task takes one parameter, `&[u8]`",
        ));
    }
    Ok(quote! {
        #[unsafe(no_mangle)]
        pub extern "C" fn holo_task(args: *const u8, len: usize) -> i32 {
            // SAFETY: the host gives `len` bytes that stay as they are during this call.
            let args = unsafe { ::holo_guest::export::bytes(args, len) };
            ::holo_guest::export::Outcome::end(#name(args))
        }
    })
}

/// Fresh names and the types of the parameters from `first` on.
fn arguments(function: &ItemFn, first: usize) -> Result<(Vec<Ident>, Vec<&Type>)> {
    let (mut names, mut types) = (Vec::new(), Vec::new());
    for (index, argument) in function.sig.inputs.iter().enumerate().skip(first) {
        let FnArg::Typed(argument) = argument else {
            return Err(Error::new_spanned(argument, "a kernel is a function without `self`"));
        };
        names.push(format_ident!("argument{index}"));
        types.push(&*argument.ty);
    }
    Ok((names, types))
}
