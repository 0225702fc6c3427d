//! The reader of template.yaml, so that the local stack has the deployed table and routes.

use crate::bus::Rule;
use crate::schedules::{Every, Schedule};
use yaml_rust2::{Yaml, YamlLoader};

pub use crate::template_error::TemplateError;

/// The deployed template, template.yaml.
pub const DEPLOYED: &str = include_str!("../../../template.yaml");

/// A route of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The route key, such as `GET /v1/catalog`.
    pub key: String,
    /// The name of the binary of the function that handles it.
    pub function: String,
    /// Whether the route requires a token.
    pub needs_token: bool,
}

/// The table's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The key attributes: their names and types.
    pub attributes: Vec<(String, String)>,
    /// The table's keys: their names, and `HASH` or `RANGE`.
    pub keys: Vec<(String, String)>,
    pub indexes: Vec<Index>,
    /// The stream's view type.
    pub stream_view: String,
}

/// A global secondary index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    pub name: String,
    /// The index's keys: their names, and `HASH` or `RANGE`.
    pub keys: Vec<(String, String)>,
    /// The projected attributes, without the keys.
    pub included: Vec<String>,
}

/// A parsed template.
#[derive(Debug)]
pub struct Template(Yaml);

impl Template {
    /// Parses a template. An intrinsic function is read as plain text, which is enough for routes and keys.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let document = YamlLoader::load_from_str(text)?.into_iter().next();
        document.map(Self).ok_or(TemplateError::Missing("document"))
    }

    /// Returns the routes of all functions.
    pub fn routes(&self) -> Result<Vec<Route>, TemplateError> {
        self.functions()?
            .into_iter()
            .map(routes_of)
            .collect::<Result<Vec<_>, _>>()
            .map(|routes| routes.concat())
    }

    /// Returns the schedules of all functions.
    pub fn schedules(&self) -> Result<Vec<Schedule>, TemplateError> {
        let mut schedules = Vec::new();
        for function in self.functions()? {
            let binary = text(&function["Metadata"]["BuildProperties"]["Binary"], "Binary")?;
            let events =
                function["Properties"]["Events"].as_hash().into_iter().flat_map(|events| events.values());
            for event in events.filter(|event| event["Type"].as_str() == Some("ScheduleV2")) {
                let event = &event["Properties"];
                schedules.push(Schedule {
                    function: binary.clone(),
                    input: text(&event["Input"], "Input")?,
                    every: Every::parse(&text(&event["ScheduleExpression"], "ScheduleExpression")?)?,
                });
            }
        }
        Ok(schedules)
    }

    /// Returns the bus rules that invoke a function.
    pub fn rules(&self) -> Result<Vec<Rule>, TemplateError> {
        let mut rules = Vec::new();
        for function in self.functions()? {
            let binary = text(&function["Metadata"]["BuildProperties"]["Binary"], "Binary")?;
            let events =
                function["Properties"]["Events"].as_hash().into_iter().flat_map(|events| events.values());
            for event in events.filter(|event| event["Type"].as_str() == Some("EventBridgeRule")) {
                let pattern = &event["Properties"]["Pattern"];
                let names = list(&pattern["detail-type"]).map(|name| text(name, "detail-type"));
                let kinds = list(&pattern["detail"]["kind"]).map(|kind| text(kind, "kind"));
                rules.push(Rule {
                    function: binary.clone(),
                    source: text(&pattern["source"][0], "source")?,
                    names: names.collect::<Result<_, _>>()?,
                    kinds: kinds.collect::<Result<_, _>>()?,
                });
            }
        }
        Ok(rules)
    }

    fn functions(&self) -> Result<Vec<&Yaml>, TemplateError> {
        let resources = self.0["Resources"].as_hash().ok_or(TemplateError::Missing("Resources"))?;
        let is_function = |it: &&Yaml| it["Type"].as_str() == Some("AWS::Serverless::Function");
        Ok(resources.values().filter(is_function).collect())
    }

    /// Returns the table's definition.
    pub fn table(&self) -> Result<Table, TemplateError> {
        let table = &self.0["Resources"]["Table"]["Properties"];
        let indexes = list(&table["GlobalSecondaryIndexes"]).map(|index| {
            let included = list(&index["Projection"]["NonKeyAttributes"]);
            Ok(Index {
                name: text(&index["IndexName"], "IndexName")?,
                keys: pairs(&index["KeySchema"], "KeyType")?,
                included: included.map(|name| text(name, "NonKeyAttributes")).collect::<Result<_, _>>()?,
            })
        });
        Ok(Table {
            attributes: pairs(&table["AttributeDefinitions"], "AttributeType")?,
            keys: pairs(&table["KeySchema"], "KeyType")?,
            indexes: indexes.collect::<Result<_, TemplateError>>()?,
            stream_view: text(&table["StreamSpecification"]["StreamViewType"], "StreamViewType")?,
        })
    }
}

fn routes_of(function: &Yaml) -> Result<Vec<Route>, TemplateError> {
    let binary = text(&function["Metadata"]["BuildProperties"]["Binary"], "Binary")?;
    let events = function["Properties"]["Events"].as_hash().into_iter().flat_map(|events| events.values());
    let http = events.filter(|event| event["Type"].as_str() == Some("HttpApi"));
    let route = |event: &Yaml| {
        let event = &event["Properties"];
        let key = format!("{} {}", text(&event["Method"], "Method")?, text(&event["Path"], "Path")?);
        let needs_token = event["Auth"]["Authorizer"].as_str() != Some("NONE");
        Ok(Route { key, function: binary.clone(), needs_token })
    };
    http.map(route).collect()
}

fn list(yaml: &Yaml) -> impl Iterator<Item = &Yaml> {
    yaml.as_vec().into_iter().flatten()
}

fn text(yaml: &Yaml, name: &'static str) -> Result<String, TemplateError> {
    yaml.as_str().map(str::to_owned).ok_or(TemplateError::Missing(name))
}

fn pairs(yaml: &Yaml, second: &'static str) -> Result<Vec<(String, String)>, TemplateError> {
    let pair = |it: &Yaml| Ok((text(&it["AttributeName"], "AttributeName")?, text(&it[second], second)?));
    list(yaml).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use account::AccountRoute;
    use credits_runtime::Route;
    use debit::DebitRoute;
    use topup_webhook::WebhookRoute;

    use super::{DEPLOYED, Template};

    fn keys_of<R: Route>(function: &str) -> Vec<(String, String)> {
        R::KEYS.iter().map(|(key, _)| (function.to_owned(), (*key).to_owned())).collect()
    }

    #[test]
    fn template_and_functions_have_the_same_routes() {
        let mut deployed: Vec<(String, String)> = Template::parse(DEPLOYED)
            .unwrap()
            .routes()
            .unwrap()
            .into_iter()
            .map(|route| (route.function, route.key))
            .collect();
        let mut handled = keys_of::<AccountRoute>("account");
        handled.extend(keys_of::<DebitRoute>("debit"));
        handled.extend(keys_of::<WebhookRoute>("topup_webhook"));
        deployed.sort();
        handled.sort();
        assert_eq!(deployed, handled);
    }

    #[test]
    fn only_the_webhook_page_and_api_description_are_public() {
        let routes = Template::parse(DEPLOYED).unwrap().routes().unwrap();
        let open: Vec<&str> =
            routes.iter().filter(|route| !route.needs_token).map(|route| route.key.as_str()).collect();
        let files = "GET /settings/ai-credits/{file}";
        let (description, webhook) = ("GET /v1/openapi.json", "POST /v1/webhooks/stripe");
        assert_eq!(open, [description, "GET /settings/ai-credits", files, webhook]);
    }
}
