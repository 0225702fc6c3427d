//! The webhook function's Lambda binary.

fn main() -> Result<(), credits_aws::StartError> {
    credits_runtime::run(topup_webhook::TopUpWebhook::start)
}
