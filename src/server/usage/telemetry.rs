//! What is told to the outside of batches.

use super::batch::UsageBatch;

pub(super) fn batched(batch: &UsageBatch) {
    let (sequence, records, overflowed) = (batch.sequence, batch.records.len(), batch.overflowed);
    tracing::debug!(target: "evertoken", sequence, records, "usage batched");
    if overflowed > 0 {
        tracing::warn!(
            target: "evertoken", sequence, overflowed,
            "usage of more app ids than `capacity` has room for was counted without one"
        );
    }
    #[cfg(feature = "metrics")]
    count(batch);
}

#[cfg(feature = "metrics")]
fn count(batch: &UsageBatch) {
    use metrics::counter;

    use super::table::OTHER;

    for record in &batch.records {
        // An app id that may be made up makes no series of its own.
        let known = record.is_known();
        let name = record.customer.as_ref().or(record.app_id.as_ref().filter(|_| known));
        let name = name.map_or(OTHER, String::as_str).to_owned();
        for (outcome, calls) in &record.calls {
            counter!("evertoken_usage_calls_total", "customer" => name.clone(), "outcome" => outcome.name())
                .increment(*calls);
        }
        for (unit, number) in &record.units {
            counter!("evertoken_usage_units_total", "customer" => name.clone(), "unit" => unit.clone())
                .increment(*number);
        }
        if record.tokens_issued > 0 {
            counter!("evertoken_usage_tokens_total", "customer" => name).increment(record.tokens_issued);
        }
    }
}

pub(super) fn refused(sequence: u64, error: &str) {
    tracing::warn!(target: "evertoken", sequence, error, "the usage sink failed; the batch is tried again");
}
