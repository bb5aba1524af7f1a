//! The exports of ABI `holo` v1 around a plain function.

use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote};
use syn::{Error, Expr, FnArg, Ident, ItemFn, Path, Result, Type, TypeReference};

/// `holo_tile` of a map.
pub(crate) fn map_exports(function: &ItemFn) -> Result<Tokens> {
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

/// `holo_tile`, `holo_finish` and `holo_combine` of a reduction.
pub(crate) fn reduce_exports(function: &ItemFn, start: &Expr, combine: &Path) -> Result<Tokens> {
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

/// `holo_task`.
pub(crate) fn task_exports(function: &ItemFn) -> Result<Tokens> {
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
