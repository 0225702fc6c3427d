//! Reading template.yaml, so that the local stack's table and routes are the deployed ones.

use crate::bus::Rule;
use crate::schedules::{Every, Schedule};
use yaml_rust2::{Yaml, YamlLoader};

/// The template that is deployed.
pub const DEPLOYED: &str = include_str!("../../../template.yaml");

/// A template that is not as the local stack expects.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It is not YAML.
    #[error("template.yaml can't be read")]
    Yaml(#[from] yaml_rust2::ScanError),
    /// Something is missing.
    #[error("template.yaml has no {0}")]
    Missing(&'static str),
}

/// A route of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its key, such as `GET /v1/catalog`.
    pub key: String,
    /// The binary of the function that answers it.
    pub function: String,
    /// Whether it asks for a token.
    pub needs_token: bool,
}

/// The table's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Names and types of the key attributes.
    pub attributes: Vec<(String, String)>,
    /// The table's own keys: names and `HASH` or `RANGE`.
    pub keys: Vec<(String, String)>,
    /// Its indexes.
    pub indexes: Vec<Index>,
    /// What its stream shows.
    pub stream_view: String,
}

/// A global secondary index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Its keys.
    pub keys: Vec<(String, String)>,
    /// The attributes that it keeps besides keys.
    pub included: Vec<String>,
}

/// The template, parsed.
#[derive(Debug)]
pub struct Template(Yaml);

impl Template {
    /// Parses a template. Intrinsic functions are read as plain texts, which is all that a route or a key needs.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let document = YamlLoader::load_from_str(text)?.into_iter().next();
        document.map(Self).ok_or(TemplateError::Missing("document"))
    }

    /// Every route of every function.
    pub fn routes(&self) -> Result<Vec<Route>, TemplateError> {
        self.functions()?
            .into_iter()
            .map(routes_of)
            .collect::<Result<Vec<_>, _>>()
            .map(|routes| routes.concat())
    }

    /// Every schedule of every function.
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

    /// Every rule of a bus that invokes a function.
    pub fn rules(&self) -> Result<Vec<Rule>, TemplateError> {
        let mut rules = Vec::new();
        for function in self.functions()? {
            let binary = text(&function["Metadata"]["BuildProperties"]["Binary"], "Binary")?;
            let events =
                function["Properties"]["Events"].as_hash().into_iter().flat_map(|events| events.values());
            for event in events.filter(|event| event["Type"].as_str() == Some("EventBridgeRule")) {
                let pattern = &event["Properties"]["Pattern"];
                let names = list(&pattern["detail-type"]).map(|name| text(name, "detail-type"));
                rules.push(Rule {
                    function: binary.clone(),
                    source: text(&pattern["source"][0], "source")?,
                    names: names.collect::<Result<_, _>>()?,
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

    /// The table.
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
    use super::{DEPLOYED, Template};

    #[test]
    fn the_template_and_the_functions_name_the_same_routes() {
        let mut deployed: Vec<(String, String)> = Template::parse(DEPLOYED)
            .unwrap()
            .routes()
            .unwrap()
            .into_iter()
            .map(|route| (route.function, route.key))
            .collect();
        let named = |function: &str, routes: &[&str]| -> Vec<(String, String)> {
            routes.iter().map(|route| (function.to_owned(), (*route).to_owned())).collect()
        };
        let mut handled = named("account", &account::ROUTES);
        handled.extend(named("debit", &debit::ROUTES));
        handled.extend(named("topup_webhook", &topup_webhook::ROUTES));
        deployed.sort();
        handled.sort();
        assert_eq!(deployed, handled);
    }

    #[test]
    fn only_the_webhook_the_page_and_the_description_go_without_a_token() {
        let routes = Template::parse(DEPLOYED).unwrap().routes().unwrap();
        let open: Vec<&str> =
            routes.iter().filter(|route| !route.needs_token).map(|route| route.key.as_str()).collect();
        let files = "GET /settings/ai-credits/{file}";
        let (description, webhook) = ("GET /v1/openapi.json", "POST /v1/webhooks/stripe");
        assert_eq!(open, [description, "GET /settings/ai-credits", files, webhook]);
    }
}
