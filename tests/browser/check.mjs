// Looks at the status page in a real browser: every view in both themes, wide and on a phone, with and without a script;
// what goes wrong is told as JSON on standard output. Arguments: address, token, folder for pictures (may be empty).
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.env.STACK_BROWSER + "/");
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [address, token, pictures] = process.argv.slice(2);
const wrong = [];

const browser = await chromium.launch({
  executablePath: process.env.STACK_CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
});

// A context that tells of everything the page complains about.
async function context(options) {
  const made = await browser.newContext({ bypassCSP: false, ...options });
  made.on("page", (page) => {
    page.on("console", (message) => {
      // A refusal is an error of the console's too; what came of it is looked at.
      const refused = /status of 40[13]/.test(message.text());
      if (message.type() === "error" && !refused) wrong.push(`console of ${page.url()}: ${message.text()}`);
    });
    page.on("pageerror", (error) => wrong.push(`script of ${page.url()}: ${error}`));
    page.on("requestfailed", (request) => {
      const failed = request.failure()?.errorText ?? "";
      if (!failed.includes("ERR_ABORTED")) wrong.push(`${request.url()}: ${failed}`);
    });
  });
  return made;
}

async function signIn(page) {
  await page.goto(address + "/retention");
  if (!page.url().includes("/sign-in?next=%2Fretention")) wrong.push(`nobody is asked to sign in: ${page.url()}`);
  await page.fill("#token", "a-token-that-nobody-has");
  await page.click("button.main");
  if (!(await page.textContent("[role=alert]")).includes("not known")) wrong.push("a wrong token is not refused");
  await page.fill("#token", token);
  await page.click("button.main");
  if (new URL(page.url()).pathname !== "/retention") wrong.push(`after signing in: ${page.url()}`);
}

async function look(page, name, path) {
  const answer = await page.goto(address + path);
  if (answer.status() !== 200) wrong.push(`${path}: ${answer.status()}`);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wider > 0) wrong.push(`${name} ${path} is ${wider} pixels wider than the screen`);
  if (pictures) await page.screenshot({ path: `${pictures}/${name}${path.split("?")[0].replaceAll("/", "-")}.png`, fullPage: true });
}

async function accessible(page, name, path) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  for (const one of violations) {
    wrong.push(`${name} ${path}: ${one.id}: ${one.help} (${one.nodes.map((node) => node.target).join("; ")})`);
  }
}

const views = ["/", "/retention", "/visibility", "/backups", "/migrations", "/migrations/tune-autovacuum", "/runs", "/webhooks", "/actions", "/docs"];
for (const colorScheme of ["light", "dark"]) {
  for (const [shape, viewport] of [["wide", { width: 1280, height: 900 }], ["phone", { width: 375, height: 740 }]]) {
    const name = `${shape}-${colorScheme}`;
    // axe is put into the page from outside, which the page's own policy would refuse.
    const one = await context({ colorScheme, viewport, bypassCSP: true });
    const page = await one.newPage();
    await signIn(page);
    for (const path of views) {
      await look(page, name, path);
      await accessible(page, name, path);
    }
    await one.close();
  }
}

// With the page's own policy: a backup is started, watched, and ends without anybody loading the page again.
const watched = await context({ viewport: { width: 1280, height: 900 } });
const page = await watched.newPage();
await signIn(page);
await page.goto(address + "/");
await page.click("button[aria-label='Start backup']");
await page.waitForURL(/\/runs\/[0-9a-f-]{36}$/);
const run = page.url();
await page.waitForSelector("h1 .tag.good", { timeout: 60_000 });
if (!(await page.locator("pre").last().textContent()).includes("ended")) wrong.push("the log of a run is not shown");
if (pictures) await page.screenshot({ path: `${pictures}/run.png`, fullPage: true });

// A migration is approved by whoever has read it.
await page.goto(address + "/migrations/tune-autovacuum");
await page.check("input[name=read]");
await page.click("button:text('Approve')");
await page.waitForSelector("h2:text('Approvals')");
if (pictures) await page.screenshot({ path: `${pictures}/approved.png`, fullPage: true });

// A form of another session is refused, and nothing is done.
await page.goto(address + "/");
await page.evaluate(() => document.querySelectorAll("input[name=csrf]").forEach((one) => { one.value = "0".repeat(64); }));
await page.click("button[aria-label='Start visibility']");
if (!(await page.textContent("main")).includes("another session")) wrong.push("a form of another session is taken");

// A session that has ended leads to where one signs in.
await watched.clearCookies();
await page.goto(run);
if (!page.url().includes("/sign-in")) wrong.push("an ended session is not noticed");
await watched.close();

// Without a script everything is there and can be done.
const plain = await context({ javaScriptEnabled: false });
const still = await plain.newPage();
await signIn(still);
for (const path of views) await look(still, "plain", path);
await still.goto(address + "/");
await still.click("button[aria-label='Start visibility']");
if (!/\/runs\/[0-9a-f-]{36}$/.test(still.url())) wrong.push(`without a script a run is not started: ${still.url()}`);
await still.click("button:text('Sign out')");
await still.goto(address + "/");
if (!still.url().includes("/sign-in")) wrong.push("signing out does not");
await plain.close();

await browser.close();
console.log(JSON.stringify(wrong));
process.exit(wrong.length ? 1 : 0);
