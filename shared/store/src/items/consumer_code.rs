//! The short code of a consumer, for items that hold many: a letter for its kind, then its ids, separated by commas.

use credits_core::consumer::Consumer;
use credits_core::id::Id;

/// Encodes a consumer.
pub(crate) fn write(consumer: &Consumer) -> String {
    match consumer {
        Consumer::WorkflowStep { workflow_id, run_id, step_id } => {
            format!("w,{workflow_id},{run_id},{step_id}")
        }
        Consumer::Action { feature, user_id } => format!("a,{feature},{user_id}"),
        Consumer::Bulk { job_id, feature, list_id, user_id } => {
            let optional = |id: &Option<Id>| id.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("b,{job_id},{feature},{},{}", optional(list_id), optional(user_id))
        }
    }
}

/// Decodes a consumer; `None` if the code is malformed.
pub(crate) fn read(code: &str) -> Option<Consumer> {
    let id = |text: &str| text.parse::<Id>().ok();
    let optional = |text: &str| if text.is_empty() { Some(None) } else { id(text).map(Some) };
    match code.split(',').collect::<Vec<_>>()[..] {
        ["w", workflow, run, step] => {
            Some(Consumer::WorkflowStep { workflow_id: id(workflow)?, run_id: id(run)?, step_id: id(step)? })
        }
        ["a", feature, user] => Some(Consumer::Action { feature: id(feature)?, user_id: id(user)? }),
        ["b", job, feature, list, user] => Some(Consumer::Bulk {
            job_id: id(job)?,
            feature: id(feature)?,
            list_id: optional(list)?,
            user_id: optional(user)?,
        }),
        _ => None,
    }
}

/// Splits the code of a workflow step into the part that its run's steps share and its step id.
///
/// Other codes are not split: their second part is empty.
pub(crate) fn part(code: &str) -> (&str, &str) {
    match code.rsplit_once(',') {
        Some(parts) if code.starts_with('w') => parts,
        _ => (code, ""),
    }
}

/// Joins the two parts of a code.
pub(crate) fn join(common: &str, own: &str) -> String {
    if own.is_empty() { common.to_owned() } else { format!("{common},{own}") }
}

#[cfg(test)]
mod tests {
    use credits_core::consumer::Consumer;
    use serde_json::json;

    use super::{join, part, read, write};

    #[test]
    fn a_consumer_code_round_trips_whole_or_in_parts() {
        for consumer in [
            json!({ "kind": "workflow_step", "workflow_id": "w", "run_id": "r-1", "step_id": "s_2" }),
            json!({ "kind": "action", "feature": "f", "user_id": "u" }),
            json!({ "kind": "bulk", "job_id": "j", "feature": "f", "list_id": "l", "user_id": "u" }),
            json!({ "kind": "bulk", "job_id": "j", "feature": "f", "user_id": "u" }),
            json!({ "kind": "bulk", "job_id": "j", "feature": "f" }),
        ] {
            let consumer: Consumer = serde_json::from_value(consumer).unwrap();
            let code = write(&consumer);
            let (common, own) = part(&code);
            assert_eq!(read(&code).as_ref(), Some(&consumer));
            assert_eq!(read(&join(common, own)), Some(consumer));
        }
        assert_eq!(part("w,flow,run,step"), ("w,flow,run", "step"));
        for bad in ["", "w,a,b", "a,f,", "x,1", "b,j,f,l"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
