//! The webhook function's bootstrap.

fn main() -> Result<(), credits_runtime::StartError> {
    credits_runtime::run(topup_webhook::TopUpWebhook::start)
}
