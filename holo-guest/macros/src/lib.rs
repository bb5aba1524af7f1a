//! The attribute macros of `holo-guest`: each writes the exports of ABI `holo` v1 around a plain function.
//!
//! They are re-exported by `holo-guest`, which documents them with the types they work on. The exports exist only for
//! wasm32; elsewhere the function stays as it is, so kernels can be tested natively.

mod exports;
mod kind;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Error, ItemFn, Result, parse_macro_input};

use crate::exports::{map_exports, reduce_exports, task_exports};
use crate::kind::Kind;

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
