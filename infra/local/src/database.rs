//! The embedded `DynamoDB` with the table of template.yaml.

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

use crate::stack_error::StackError;
use crate::template::{DEPLOYED, Index, Table, Template};

/// The table's name in the embedded database.
pub(crate) const TABLE: &str = "credits";

/// How long another `DynamoDB` may take to create the table.
const MADE_WITHIN: Duration = Duration::from_mins(2);

/// Where a stack has its table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TableLocation {
    /// In the stack's own database, in this process.
    #[default]
    Embedded,
    /// In another `DynamoDB`, at this address. The table is the stack's own and is deleted with it. Its stream is not
    /// read.
    Elsewhere(String),
}

/// Whether the table has a stream. Writes without a stream are faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The template's stream, delivered to `project`.
    On,
    /// The template's stream, not delivered: a test reads the records itself.
    Held,
    Off,
}

/// A stack's table, and the database that holds it.
#[derive(Debug)]
pub(crate) enum Home {
    /// The embedded database.
    Embedded(Database),
    /// A table of another `DynamoDB`.
    Elsewhere { endpoint: String, table: String },
}

impl Home {
    /// Starts the embedded database, in memory or in a file, or refers to another one. It does not create the table.
    pub fn open(place: &TableLocation, file: Option<&Path>, sources: &Sources) -> Result<Self, StackError> {
        Ok(match place {
            TableLocation::Embedded => Self::Embedded(Database::start(file)?),
            TableLocation::Elsewhere(endpoint) => {
                Self::Elsewhere { endpoint: endpoint.clone(), table: sources.new_id(TABLE).to_string() }
            }
        })
    }

    /// Returns the address for an SDK client.
    pub fn endpoint(&self) -> String {
        match self {
            Self::Embedded(database) => database.endpoint(),
            Self::Elsewhere { endpoint, .. } => endpoint.clone(),
        }
    }

    pub fn table(&self) -> &str {
        match self {
            Self::Embedded(_) => TABLE,
            Self::Elsewhere { table, .. } => table,
        }
    }

    /// Returns the embedded database itself: its stream is read without an SDK client.
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
        // `drop` can't await, so a thread with a runtime of its own deletes the table.
        let deleted = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let client = crate::functions::client(&endpoint, credits_aws::connection::loopback_client());
            runtime.block_on(client.delete_table().table_name(table).send()).ok()
        });
        if !matches!(deleted.join(), Ok(Some(_))) {
            tracing::error!(table = self.table(), "could not delete the table");
        }
    }
}

/// An embedded database that serves on a free port of 127.0.0.1 until it is dropped.
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
        // SQLite blocks its worker thread, so the database gets a thread and a runtime of its own.
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
                tracing::error!(error, "the embedded database failed");
            }
        });
        Ok(Self { address, handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the address for an SDK client.
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

/// Returns the name of a new in-memory database that a second connection of this process can open.
fn in_memory() -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    format!("file:credits-{}?mode=memory&cache=shared", MADE.fetch_add(1, Ordering::Relaxed))
}

/// Adds an index on the stream records. The embedded database scans all of them at each write, and deletes none.
fn index_the_stream(path: &str) -> Result<(), StackError> {
    let connection = rusqlite::Connection::open(path).map_err(|_| StackError::Part("stream's index"))?;
    let index = "CREATE INDEX IF NOT EXISTS stream_by_sequence
                 ON _stream_records (table_name, CAST(sequence_number AS INTEGER))";
    connection.execute_batch(index).map_err(|_| StackError::Part("stream's index"))
}

/// Deletes the processed stream records of a file. The last one stays, because the next record's number follows from
/// it.
pub(crate) fn trim_stream(file: &Path, worked_off: i64) -> Result<(), StackError> {
    let part = || StackError::Part("stream's trimming");
    let connection = rusqlite::Connection::open(file).map_err(|_| part())?;
    let trim = "DELETE FROM _stream_records WHERE CAST(sequence_number AS INTEGER) < ?1";
    connection.execute(trim, [worked_off]).map_err(|_| part())?;
    Ok(())
}

impl Drop for Database {
    fn drop(&mut self) {
        // The database's thread waits until the sender is dropped.
        self.stop.take();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the embedded database panicked");
        }
    }
}

/// Creates the template's table unless it exists.
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
