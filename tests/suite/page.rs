//! The settings page as it is served: without a token, without data, and under a strict content security policy.
//! `tests/browser` tests what the page does.

use reqwest::Method;

use crate::world::World;

/// A request with the page's `ETag` is answered 304.
#[tokio::test]
async fn the_page_needs_no_token_and_has_a_strict_policy() {
    let world = World::new().await;
    let page = world.bare(Method::GET, "/settings/ai-credits").send().await.unwrap();
    assert_eq!(page.status(), 200);
    let header = |name: &str| page.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    insta::assert_snapshot!(
        header("content-security-policy"),
        @"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    );
    assert_eq!(
        (header("referrer-policy"), header("x-content-type-options")),
        ("no-referrer".into(), "nosniff".into())
    );
    let tag = header("etag");
    let again =
        world.bare(Method::GET, "/settings/ai-credits").header("if-none-match", format!("\"old\", W/{tag}"));
    let again = again.send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.bytes().await.unwrap().len()), (304, 0));
}

#[tokio::test]
async fn only_the_files_that_the_page_names_are_served() {
    let world = World::new().await;
    let page = world.bare(Method::GET, "/settings/ai-credits").send().await.unwrap().text().await.unwrap();
    let mut wanted: Vec<String> =
        page.split("\"ai-credits/").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    let mut at = 0;
    while let Some(name) = wanted.get(at).cloned() {
        let path = format!("/settings/ai-credits/{name}");
        let file = world.bare(Method::GET, &path).send().await.unwrap();
        assert_eq!(file.status(), 200, "{name}");
        let kind = if name.rsplit_once('.').is_some_and(|(_, kind)| kind == "css") {
            "text/css"
        } else {
            "text/javascript"
        };
        assert!(file.headers()["content-type"].to_str().unwrap().starts_with(kind));
        let text = file.text().await.unwrap();
        let imported = text.split("'./").skip(1).map(|rest| rest.split('\'').next().unwrap().to_owned());
        let new: Vec<String> = imported.filter(|name| !wanted.contains(name)).collect();
        wanted.extend(new);
        wanted.dedup();
        at += 1;
    }
    assert!(wanted.len() > 10, "{wanted:?}");
    for other in ["", "index.html", "vendor.sh", "..%2Findex.html", "page.js%00"] {
        let answer = world.bare(Method::GET, &format!("/settings/ai-credits/{other}")).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{other}");
    }
}

#[tokio::test]
async fn m11_a_refusal_links_to_the_page() {
    let world = World::new().await;
    world.put_workspace("acme").await;
    let refused = world.take("acme", "1", "5").await;
    let url = format!("{}/settings/ai-credits", world.stack.url());
    assert_eq!((refused.status, refused.body["top_up_url"].as_str()), (402, Some(url.as_str())));
}
