//! The embedded `DynamoDB`, with template.yaml's table.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::client::Waiters;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, Projection, ProjectionType,
    StreamSpecification, TableDescription, TableStatus,
};
use credits_store::Sources;
use tokio::sync::oneshot;

use crate::StackError;
use crate::template::{DEPLOYED, Index, Table, Template};

/// The table's name in the embedded database.
pub(crate) const TABLE: &str = "credits";

/// How long a table of another `DynamoDB` may take to be made.
const MADE_WITHIN: Duration = Duration::from_mins(2);

/// Where a stack has its table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Place {
    /// In a database of its own, in this process.
    #[default]
    Embedded,
    /// In another `DynamoDB`, at this address, in a table of its own that ends with the stack. Its stream is not read.
    Elsewhere(String),
}

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

/// A stack's table, wherever it is.
#[derive(Debug)]
pub(crate) enum Home {
    /// In the embedded database.
    Embedded(Database),
    /// In another one; with the table's name.
    Elsewhere { endpoint: String, table: String },
}

impl Home {
    /// Starts the embedded database, in memory or in a file, or turns to another one. The table is yet to be made.
    pub fn open(place: &Place, file: Option<&Path>, sources: &Sources) -> Result<Self, StackError> {
        Ok(match place {
            Place::Embedded => Self::Embedded(Database::start(file)?),
            Place::Elsewhere(endpoint) => {
                Self::Elsewhere { endpoint: endpoint.clone(), table: sources.new_id(TABLE).to_string() }
            }
        })
    }

    /// The address for an SDK client.
    pub fn endpoint(&self) -> String {
        match self {
            Self::Embedded(database) => database.endpoint(),
            Self::Elsewhere { endpoint, .. } => endpoint.clone(),
        }
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        match self {
            Self::Embedded(_) => TABLE,
            Self::Elsewhere { table, .. } => table,
        }
    }

    /// The embedded database itself, whose stream no client of ours reads.
    pub fn embedded(&self) -> Option<dynoxide::Database> {
        match self {
            Self::Embedded(database) => Some(database.handle.clone()),
            Self::Elsewhere { .. } => None,
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let Self::Elsewhere { endpoint, table } = self else { return };
        let (endpoint, table) = (endpoint.clone(), table.clone());
        // A thread and runtime of its own: what is dropped can't wait.
        let deleted = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let client = crate::functions::client(&endpoint, credits_runtime::connection::loopback_client());
            runtime.block_on(client.delete_table().table_name(table).send()).ok()
        });
        if !matches!(deleted.join(), Ok(Some(_))) {
            tracing::error!(table = self.table(), "a table could not be deleted");
        }
    }
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
        Ok(made) if is_ready(made.table_description()) => Ok(()),
        Err(CreateTableError::ResourceInUseException(_)) => Ok(()),
        Ok(_) => {
            let made = client.wait_until_table_exists().table_name(name).wait(MADE_WITHIN).await;
            made.map(drop).map_err(|_| StackError::Part("table"))
        }
        Err(_) => Err(StackError::Part("table")),
    }
}

fn is_ready(table: Option<&TableDescription>) -> bool {
    table.and_then(TableDescription::table_status) == Some(&TableStatus::Active)
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
