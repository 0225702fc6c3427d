"""Checks which senders of mails infra/deploy refuses because their links would lead to no page."""

from expand import deploy

PAGE = "https://app.acme.com/credits?workspace={workspace}"


def refused(sender, page):
    return deploy.without_links({"MailFrom": sender, "TopUpUrl": page})


def main():
    for sender, page in [
        ("AI Credits <credits@hub.example.com>", ""),
        ("credits@hub.example", "https://hub.example/credits"),
        ("AI Credits <credits@acme.com>", PAGE),
        ("credits@acme.com", "https://credits-example.com"),
        ("credits@acme.com", "https://APP.acme.com:8443/w/{workspace}"),
    ]:
        assert refused(sender, page) is None, (sender, page)
    for page in ["", "https://hub.example/credits", "https://app.example.com", "http://localhost:3000/{workspace}", "https://[bad"]:
        reason = refused("AI Credits <credits@acme.com>", page)
        assert reason and "acme.com" in reason and "set TopUpUrl" in reason, (page, reason)
        assert "settings page" in reason if not page else page in reason, reason
    print("Mails of a real sender need a TopUpUrl with a host that is no placeholder.")


if __name__ == "__main__":
    main()
