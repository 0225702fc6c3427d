//! Lists, in pages, newest first.

use serde_json::{Value, json};

use super::errors::StripeRefusal;
use super::form::{Field, FieldKind, Form, field};

/// The default size of a page.
const DEFAULT_LIMIT: usize = 10;
/// The largest size of a page.
const MAX_LIMIT: u64 = 100;

pub(super) const LIMIT: Field = field("limit", FieldKind::Whole);
pub(super) const STARTING_AFTER: Field = field("starting_after", FieldKind::Text(255));

/// The requested page of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListPage<'a> {
    limit: usize,
    after: Option<&'a str>,
}

impl<'a> ListPage<'a> {
    /// Reads `limit` and `starting_after`. `exists` returns whether the list's type has an object with this id.
    pub fn read(form: &'a Form, object: &str, exists: impl Fn(&str) -> bool) -> Result<Self, StripeRefusal> {
        let limit = match form.positive("limit")? {
            Some(limit) if limit > MAX_LIMIT => {
                let message = format!("This value must be less than or equal to {MAX_LIMIT}.");
                let refusal = StripeRefusal::validation(message).code("parameter_invalid_integer");
                return Err(refusal.param("limit"));
            }
            Some(limit) => usize::try_from(limit).unwrap_or(DEFAULT_LIMIT),
            None => DEFAULT_LIMIT,
        };
        let after = form.text("starting_after");
        if let Some(id) = after.filter(|id| !exists(id)) {
            return Err(StripeRefusal::missing(object, id, "starting_after"));
        }
        Ok(Self { limit, after })
    }

    /// Returns the page of these objects. The iterator must yield the newest first.
    pub fn of<'b, T: 'b>(
        self,
        url: &str,
        newest_first: impl Iterator<Item = (&'b String, &'b T)>,
        show: impl Fn(&'b T) -> Value,
    ) -> Value {
        let mut rest = newest_first;
        if let Some(after) = self.after {
            for (id, _) in rest.by_ref() {
                if id == after {
                    break;
                }
            }
        }
        let data: Vec<Value> = rest.by_ref().take(self.limit).map(|(_, object)| show(object)).collect();
        json!({ "object": "list", "url": url, "has_more": rest.next().is_some(), "data": data })
    }
}

/// The filters on `created`.
pub(super) const CREATED: [Field; 5] = [
    field("created", FieldKind::Whole),
    field("created[gt]", FieldKind::Whole),
    field("created[gte]", FieldKind::Whole),
    field("created[lt]", FieldKind::Whole),
    field("created[lte]", FieldKind::Whole),
];

/// Returns whether an object created at this second passes the filters on `created`.
pub(super) fn is_created_as_asked(form: &Form, created: i64) -> bool {
    let bound = |name: &str| form.whole(name);
    bound("created").is_none_or(|at| created == at)
        && bound("created[gt]").is_none_or(|at| created > at)
        && bound("created[gte]").is_none_or(|at| created >= at)
        && bound("created[lt]").is_none_or(|at| created < at)
        && bound("created[lte]").is_none_or(|at| created <= at)
}
