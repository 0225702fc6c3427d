//! The webhook function's Lambda binary.

fn main() -> Result<(), credits_runtime::StartError> {
    credits_runtime::run(topup_webhook::TopUpWebhook::start)
}
