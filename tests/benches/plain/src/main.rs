//! The debit function on the AWS SDK with default features, the defaults of `aws-config`, and cargo's release profile.

use std::sync::Arc;

use aws_config::BehaviorVersion;
use credits_runtime::{Settings, StartError, catalogue, sources};
use credits_store::Store;
use debit::Debits;

fn main() -> Result<(), StartError> {
    credits_runtime::run(start)
}

fn start(settings: Settings) -> Result<Debits, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let config = runtime.block_on(aws_config::load_defaults(BehaviorVersion::latest()));
    let store = Store::new(aws_sdk_dynamodb::Client::new(&config), &settings.table()?, sources::system());
    Ok(Debits::new(store, Arc::new(catalogue::deployed()?), settings.top_up_url_of_calls()))
}
