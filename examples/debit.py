import http.client, json, os, random, time, urllib.error, urllib.request

class InsufficientCredits(Exception):
    def __init__(self, problem):
        super().__init__(problem["detail"])
        self.prompt, self.top_up_url = problem["prompt"], problem["top_up_url"]

def debit(workspace, key, order):
    """Returns the debit, or raises. Call the model only after it has returned."""
    url = f"{os.environ['CREDITS_URL']}/v1/workspaces/{workspace}/debits"
    headers = {"Authorization": "Bearer " + os.environ["CREDITS_TOKEN"], "Idempotency-Key": key, "Content-Type": "application/json"}
    for attempt in range(1, 6):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(order).encode(), headers), timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            if refused.code == 402:
                raise InsufficientCredits(json.load(refused)) from None
            if attempt == 5 or refused.code not in (429, 500, 502, 503, 504):
                raise RuntimeError(f"debit {key}: {refused.code} {refused.read().decode()}") from None
        except (OSError, http.client.HTTPException):  # No whole answer came.
            if attempt == 5:
                raise
        # The same key charges nothing twice, even if an attempt whose answer was lost has drawn the credits.
        time.sleep(random.random() * 0.2 * 2 ** attempt)

if __name__ == "__main__":
    import sys
    key, order = map(json.loads, sys.argv[1:])
    try:
        print("it cost", debit("demo", key, order)["credits"])
    except InsufficientCredits as refused:
        print(refused.prompt, refused.top_up_url)
