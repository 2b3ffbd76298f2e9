"""Uses the apps' public SDKs as their manuals say, through the proxy of the environment.

    calls.py PORT SDK...

PORT is the origin's: each SDK gets its app's own host with this port. What the origin answers may
displease an SDK; that is told and passed over, since the request was made by then.
"""

import contextlib
import io
import os
import sys
import urllib.parse
import warnings

warnings.filterwarnings("ignore")
PORT = sys.argv[1]
FILE = b"the plans\n"


@contextlib.contextmanager
def call(what):
    """One call of an SDK."""
    try:
        yield
        print("made", what, flush=True)
    except Exception as error:  # noqa: BLE001 - an SDK may raise anything over an answer
        print("made", what, "and got", type(error).__name__, str(error)[:200], flush=True)


def boto3():
    import boto3
    from botocore.config import Config

    s3 = boto3.client(
        "s3",
        endpoint_url=f"https://s3.eu-west-1.amazonaws.com:{PORT}",
        region_name="eu-west-1",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="secret",
        config=Config(s3={"addressing_style": "virtual"}, retries={"max_attempts": 1}),
    )
    with call("put_object"):
        s3.put_object(Bucket="acme-plans", Key="q3/plan.txt", Body=FILE)
    with call("get_object"):
        s3.get_object(Bucket="acme-plans", Key="q3/plan.txt")
    with call("delete_object"):
        s3.delete_object(Bucket="acme-plans", Key="q3/old.txt")


def dropbox():
    import dropbox

    box = dropbox.Dropbox(oauth2_access_token="token", max_retries_on_error=0)
    box._host_map = {name: f"{host}:{PORT}" for name, host in box._host_map.items()}
    with call("files_upload"):
        box.files_upload(FILE, "/plans/q3.txt")
    with call("create_shared_link"):
        box.sharing_create_shared_link_with_settings("/plans/q3.txt")
    with call("add_file_member"):
        from dropbox.sharing import MemberSelector

        box.sharing_add_file_member("id:abc", [MemberSelector.email("bob@other.test")])
    with call("files_download"):
        box.files_download("/plans/q3.txt")
    with call("files_delete"):
        box.files_delete_v2("/plans/old.txt")


def slack():
    from slack_sdk import WebClient

    client = WebClient(token="xoxb-1", base_url=f"https://slack.com:{PORT}/api/")
    with call("chat_postMessage"):
        client.chat_postMessage(channel="C0PLANS", text="the plans")
    with call("files_getUploadURLExternal"):
        client.files_getUploadURLExternal(filename="plan.txt", length=len(FILE))
    with call("conversations_invite"):
        client.conversations_invite(channel="C0PLANS", users="U0BOB")


def google_drive():
    import httplib2
    import socks
    from googleapiclient.discovery import build
    from googleapiclient.http import MediaIoBaseUpload

    # This library does not decode the user of a proxy's URL.
    proxy = urllib.parse.urlsplit(os.environ["https_proxy"])
    http = httplib2.Http(
        proxy_info=httplib2.ProxyInfo(
            socks.PROXY_TYPE_HTTP,
            proxy.hostname,
            proxy.port,
            proxy_user=urllib.parse.unquote(proxy.username),
            proxy_pass=proxy.password,
        )
    )
    drive = build(
        "drive",
        "v3",
        http=http,
        static_discovery=True,
        client_options={"api_endpoint": f"https://www.googleapis.com:{PORT}/drive/v3/"},
    )
    # The library builds upload URLs of its own root.
    drive._rootDesc["rootUrl"] = f"https://www.googleapis.com:{PORT}/"
    media = MediaIoBaseUpload(io.BytesIO(FILE), mimetype="text/plain")
    with call("files.create"):
        drive.files().create(body={"name": "plan.txt"}, media_body=media).execute()
    with call("permissions.create"):
        who = {"type": "user", "role": "reader", "emailAddress": "bob@other.test"}
        drive.permissions().create(fileId="1abc", body=who).execute()
    with call("files.delete"):
        drive.files().delete(fileId="1old").execute()


def google_cloud_storage():
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(
        project="acme",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": f"https://storage.googleapis.com:{PORT}"},
    )
    with call("upload_from_string"):
        client.bucket("acme-plans").blob("q3/plan.txt").upload_from_string(FILE, retry=None)


def azure():
    from azure.storage.blob import BlobClient

    blob = BlobClient(
        account_url=f"https://acmeplans.blob.core.windows.net:{PORT}",
        container_name="q3",
        blob_name="plan.txt",
        credential="sig=x&sv=2024-01-01",
        retry_total=0,
    )
    with call("upload_blob"):
        blob.upload_blob(FILE)
    with call("delete_blob"):
        blob.delete_blob()


def openai():
    import openai

    client = openai.OpenAI(
        api_key="sk-1", base_url=f"https://api.openai.com:{PORT}/v1", max_retries=0
    )
    with call("chat.completions.create"):
        client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "Summarise the plans"}]
        )
    with call("files.create"):
        client.files.create(file=("plan.txt", FILE), purpose="assistants")


def anthropic():
    import anthropic

    client = anthropic.Anthropic(
        api_key="sk-1", base_url=f"https://api.anthropic.com:{PORT}", max_retries=0
    )
    with call("messages.create"):
        client.messages.create(
            model="claude",
            max_tokens=9,
            messages=[{"role": "user", "content": "Summarise the plans"}],
        )


def github():
    import github

    hub = github.Github(
        auth=github.Auth.Token("t"), base_url=f"https://api.github.com:{PORT}", retry=None
    )
    repository = hub.get_repo("acme/widget", lazy=True)
    with call("create_file"):
        repository.create_file("src/plan.txt", "add", FILE, branch="main")
    with call("create_issue"):
        repository.create_issue(title="Plan")


def gitlab():
    import gitlab

    lab = gitlab.Gitlab(f"https://gitlab.com:{PORT}", private_token="t")
    project = lab.projects.get("acme/widget", lazy=True)
    with call("files.create"):
        project.files.create(
            {"file_path": "plan.txt", "branch": "main", "content": "x", "commit_message": "add"}
        )
    with call("issues.create"):
        project.issues.create({"title": "Plan"})


def jira():
    from jira import JIRA

    tracker = JIRA(
        server=f"https://acme.atlassian.net:{PORT}",
        basic_auth=("alice@acme.test", "t"),
        get_server_info=False,
        max_retries=0,
    )
    with call("create_issue"):
        tracker.create_issue(project="PLAN", summary="Q3", issuetype={"name": "Task"})


def notion():
    from notion_client import Client

    client = Client(auth="t", base_url=f"https://api.notion.com:{PORT}")
    with call("pages.create"):
        client.pages.create(
            parent={"page_id": "abc"},
            properties={"title": [{"text": {"content": "Plan"}}]},
        )


def box():
    from box_sdk_gen import BoxClient, BoxDeveloperTokenAuth, NetworkSession, RetryStrategy
    from box_sdk_gen.managers.uploads import (
        UploadFileAttributes,
        UploadFileAttributesParentField,
    )
    from box_sdk_gen.networking.base_urls import BaseUrls

    urls = BaseUrls(
        base_url=f"https://api.box.com:{PORT}",
        upload_url=f"https://upload.box.com:{PORT}/api",
    )
    session = NetworkSession(base_urls=urls)
    client = BoxClient(auth=BoxDeveloperTokenAuth(token="t"), network_session=session)
    with call("upload_file"):
        attributes = UploadFileAttributes(
            name="plan.txt", parent=UploadFileAttributesParentField(id="0")
        )
        client.uploads.upload_file(attributes, io.BytesIO(FILE))
    with call("delete_file_by_id"):
        client.files.delete_file_by_id("123")


def salesforce():
    from simple_salesforce import Salesforce

    force = Salesforce(instance_url=f"https://acme.my.salesforce.com:{PORT}", session_id="t")
    with call("Contact.create"):
        force.Contact.create({"LastName": "Plan"})


def asana():
    import urllib3

    import asana

    configuration = asana.Configuration()
    configuration.host = f"https://app.asana.com:{PORT}/api/1.0"
    configuration.access_token = "t"
    client = asana.ApiClient(configuration)
    # This library takes no notice of the environment, and sends no credentials to proxies.
    proxy = urllib.parse.urlsplit(os.environ["https_proxy"])
    credentials = urllib.parse.unquote(f"{proxy.username}:{proxy.password}")
    client.rest_client.pool_manager = urllib3.ProxyManager(
        f"http://{proxy.hostname}:{proxy.port}",
        proxy_headers=urllib3.make_headers(proxy_basic_auth=credentials),
        ca_certs=os.environ["SSL_CERT_FILE"],
    )
    with call("create_task"):
        asana.TasksApi(client).create_task({"data": {"name": "Plan", "workspace": "1"}}, {})


for name in sys.argv[2:]:
    globals()[name.replace("-", "_")]()
