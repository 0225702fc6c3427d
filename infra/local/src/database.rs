//! The embedded `DynamoDB`, with template.yaml's table.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, Projection, ProjectionType,
    StreamSpecification,
};
use tokio::sync::oneshot;

use crate::StackError;
use crate::template::{DEPLOYED, Index, Table, Template};

/// The table's name in a stack of its own.
pub const TABLE: &str = "credits";

/// Whether the table has its stream. What reads no stream may go without, and is faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// As the template has it.
    On,
    /// As the template has it, but nothing is handed over: whoever wants its records asks for them.
    Held,
    /// None.
    Off,
}

/// A database that serves on a free port of 127.0.0.1 until it is dropped.
pub struct Database {
    address: SocketAddr,
    handle: dynoxide::Database,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Database {
    /// Starts a database, in memory or in a file.
    pub fn start(file: Option<&Path>) -> Result<Self, StackError> {
        let path = file.map_or_else(in_memory, |file| file.to_string_lossy().into_owned());
        let database = dynoxide::Database::new(&path).map_err(|_| StackError::Part("database"))?;
        index_the_stream(&path)?;
        let handle = database.clone();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        // A thread and runtime of its own: SQLite blocks the worker that it runs on.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            let served = runtime.block_on(async {
                let listener =
                    tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?;
                let serve = dynoxide::server::serve_on(listener, database);
                tokio::select! {
                    () = serve => {}
                    _ = stopped => {}
                }
                Ok::<_, String>(())
            });
            if let Err(error) = served {
                tracing::error!(error, "the embedded database ended");
            }
        });
        Ok(Self { address, handle, stop: Some(stop), thread: Some(thread) })
    }

    /// The database itself, whose stream no client of ours reads.
    pub(crate) fn handle(&self) -> dynoxide::Database {
        self.handle.clone()
    }

    /// The address for an SDK client.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The name of a database in memory that a second connection of this process can open.
fn in_memory() -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    format!("file:credits-{}?mode=memory&cache=shared", MADE.fetch_add(1, Ordering::Relaxed))
}

/// The embedded database looks through all stream records at every write, and drops none: with an index it needs no
/// more than a glance.
fn index_the_stream(path: &str) -> Result<(), StackError> {
    let connection = rusqlite::Connection::open(path).map_err(|_| StackError::Part("stream's index"))?;
    let index = "CREATE INDEX IF NOT EXISTS stream_by_sequence
                 ON _stream_records (table_name, CAST(sequence_number AS INTEGER))";
    connection.execute_batch(index).map_err(|_| StackError::Part("stream's index"))
}

/// Drops the stream records of a file that are worked off; the last one stays, as the next one's number follows it.
pub(crate) fn trim_stream(file: &Path, worked_off: i64) -> Result<(), StackError> {
    let part = || StackError::Part("stream's trimming");
    let connection = rusqlite::Connection::open(file).map_err(|_| part())?;
    let trim = "DELETE FROM _stream_records WHERE CAST(sequence_number AS INTEGER) < ?1";
    connection.execute(trim, [worked_off]).map_err(|_| part())?;
    Ok(())
}

impl Drop for Database {
    fn drop(&mut self) {
        // Dropping the sender is what the thread waits for.
        self.stop.take();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the embedded database panicked");
        }
    }
}

/// Makes the template's table, unless it is there already.
pub async fn create_table(client: &Client, name: &str, stream: Stream) -> Result<(), StackError> {
    let table = Template::parse(DEPLOYED)?.table()?;
    let mut request = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(attributes(&table)?))
        .set_key_schema(Some(key_schema(&table.keys)?));
    for index in &table.indexes {
        request = request.global_secondary_indexes(secondary(index)?);
    }
    if stream != Stream::Off {
        let view = table.stream_view.as_str().into();
        let stream = StreamSpecification::builder().stream_enabled(true).stream_view_type(view).build();
        request = request.stream_specification(stream.map_err(|_| StackError::Part("stream"))?);
    }
    match request.send().await.map_err(SdkError::into_service_error) {
        Ok(_) | Err(CreateTableError::ResourceInUseException(_)) => Ok(()),
        Err(_) => Err(StackError::Part("table")),
    }
}

fn attributes(table: &Table) -> Result<Vec<AttributeDefinition>, StackError> {
    let attribute = |(name, kind): &(String, String)| {
        let built =
            AttributeDefinition::builder().attribute_name(name).attribute_type(kind.as_str().into()).build();
        built.map_err(|_| StackError::Part("attribute"))
    };
    table.attributes.iter().map(attribute).collect()
}

fn key_schema(keys: &[(String, String)]) -> Result<Vec<KeySchemaElement>, StackError> {
    let key = |(name, kind): &(String, String)| {
        let built = KeySchemaElement::builder().attribute_name(name).key_type(kind.as_str().into()).build();
        built.map_err(|_| StackError::Part("key"))
    };
    keys.iter().map(key).collect()
}

fn secondary(index: &Index) -> Result<GlobalSecondaryIndex, StackError> {
    let projection = Projection::builder()
        .projection_type(ProjectionType::Include)
        .set_non_key_attributes(Some(index.included.clone()))
        .build();
    GlobalSecondaryIndex::builder()
        .index_name(&index.name)
        .set_key_schema(Some(key_schema(&index.keys)?))
        .projection(projection)
        .build()
        .map_err(|_| StackError::Part("index"))
}
