//! Turns what typify writes into plain types that a new version of the API does not break.

use syn::{Attribute, Expr, Field, Fields, File, Item, ItemEnum, Lit, Meta, Variant, parse_quote};

/// Fields in whose place their own fields are written.
const FLATTENED: [&str; 2] = ["details", "run"];

/// Returns the types of a file, without the conversions that typify implements for them.
pub(crate) fn plain(file: File) -> File {
    let items = file.items.into_iter().filter_map(|item| match item {
        Item::Struct(mut item) => {
            item.attrs = attributes(&item.attrs);
            item.fields.iter_mut().for_each(plain_field);
            Some(Item::Struct(item))
        }
        Item::Enum(item) => Some(Item::Enum(open(item))),
        _ => None,
    });
    File { attrs: Vec::new(), items: items.collect(), ..file }
}

/// Adds a variant for values that a later version of the API adds.
fn open(mut item: ItemEnum) -> ItemEnum {
    let is_tagged = item.attrs.iter().any(|attribute| arguments(attribute).starts_with("tag"));
    let is_text = item.variants.iter().all(|variant| matches!(variant.fields, Fields::Unit));
    item.attrs = attributes(&item.attrs);
    item.variants.iter_mut().for_each(|variant| {
        variant.attrs = documented(&variant.attrs);
        variant.fields.iter_mut().for_each(plain_field);
    });
    let unknown: Option<Variant> = if is_tagged {
        Some(parse_quote!(Unknown(Map<String, Value>)))
    } else {
        is_text.then(|| parse_quote!(Unknown(String)))
    };
    item.variants.extend(unknown.map(|mut variant| {
        variant.attrs.push(parse_quote!(#[doc = " A value that this version of the crate does not know."]));
        variant.attrs.push(parse_quote!(#[serde(untagged)]));
        variant
    }));
    item
}

fn attributes(written: &[Attribute]) -> Vec<Attribute> {
    let is_derive = |attribute: &Attribute| attribute.path().is_ident("derive");
    let (serde, mut kept): (Vec<_>, Vec<_>) = documented(written)
        .into_iter()
        .filter(|it| !is_derive(it))
        .partition(|it| it.path().is_ident("serde"));
    kept.push(parse_quote!(#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]));
    if written.iter().any(|it| is_derive(it) && arguments(it).contains("Default")) {
        kept.push(parse_quote!(#[derive(Default)]));
    }
    kept.extend(serde);
    kept.push(parse_quote!(#[non_exhaustive]));
    kept
}

fn plain_field(field: &mut Field) {
    field.attrs = documented(&field.attrs);
    if field.ident.as_ref().is_some_and(|name| FLATTENED.iter().any(|flattened| name == flattened)) {
        field.attrs.push(parse_quote!(#[serde(flatten)]));
    }
    // Decimals are texts, whichever features of rust_decimal another crate enables.
    if field.ty == parse_quote!(::rust_decimal::Decimal) {
        field.attrs.push(parse_quote!(#[serde(with = "rust_decimal::serde::str")]));
    }
    if field.ty == parse_quote!(::std::option::Option<::rust_decimal::Decimal>) {
        field.attrs.retain(|attribute| !arguments(attribute).starts_with("deserialize_with"));
        field.attrs.push(parse_quote!(#[serde(default, with = "rust_decimal::serde::str_option")]));
    }
}

/// Returns attributes with the documentation as rustfmt formats it, without one that only repeats the name.
fn documented(written: &[Attribute]) -> Vec<Attribute> {
    let documentation = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(meta) => match &meta.value {
            Expr::Lit(value) => match &value.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    let kept = written.iter().filter_map(|attribute| match documentation(attribute) {
        Some(name) if name.starts_with('`') && name.ends_with('`') => None,
        Some(text) => {
            let text = format!(" {text}");
            Some(parse_quote!(#[doc = #text]))
        }
        None => Some(attribute.clone()),
    });
    kept.collect()
}

/// Returns the text between the parentheses.
fn arguments(attribute: &Attribute) -> String {
    attribute.meta.require_list().map(|list| list.tokens.to_string()).unwrap_or_default()
}
