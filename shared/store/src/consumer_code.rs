//! Consumers in short, where an item holds many: a letter for the kind, and the ids, parted by commas.

use credits_core::consumer::Consumer;
use credits_core::id::Id;

/// Writes a consumer.
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

/// Reads what was written.
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

/// Parts what the steps of one run have in common from what they don't; of other consumers nothing is parted.
pub(crate) fn part(code: &str) -> (&str, &str) {
    match code.rsplit_once(',') {
        Some(parts) if code.starts_with('w') => parts,
        _ => (code, ""),
    }
}

/// Joins what was parted.
pub(crate) fn join(common: &str, own: &str) -> String {
    if own.is_empty() { common.to_owned() } else { format!("{common},{own}") }
}

#[cfg(test)]
mod tests {
    use credits_core::consumer::Consumer;
    use serde_json::json;

    use super::{join, part, read, write};

    #[test]
    fn a_consumer_is_read_as_it_was_written_whole_or_in_parts() {
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
