// Looks at the status page in a real browser: every view in both themes, wide and on a phone, with and without a script.
// What goes wrong is told as JSON on standard output. Arguments: address, a folder for pictures (may be empty), and as JSON
// pairs of a path and a name that must be read there as it is. The token, of role `approve`, is in BROWSER_TOKEN.
import { readFileSync } from "node:fs";
import { context, launch, require } from "./chromium.mjs";

const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [address, pictures, told] = process.argv.slice(2);
const names = JSON.parse(told || "[]");
const wrong = [];
let looks = 0;

const views = [
  "/", "/retention", "/visibility", "/backups", "/migrations", "/migrations/tune-autovacuum", "/runs", "/webhooks", "/actions", "/docs",
  ...new Set(names.map(([path]) => path).filter((path) => !["/visibility", "/migrations"].includes(path))),
];

const browser = await launch();

async function asked(page) {
  await page.goto(address + "/retention");
  if (!page.url().includes("/sign-in?next=%2Fretention")) wrong.push(`nobody is asked to sign in: ${page.url()}`);
  await page.fill("#token", "a-token-that-nobody-has");
  await page.click("button.main");
  if (!(await page.textContent("[role=alert]")).includes("not known")) wrong.push("a wrong token is not refused");
  await page.fill("#token", process.env.BROWSER_TOKEN);
  await page.click("button.main");
  if (new URL(page.url()).pathname !== "/retention") wrong.push(`after signing in: ${page.url()}`);
}

// The only images and scripts are the page's own, and nothing carries a handler of its own: names stay names.
const injected = () => [...document.querySelectorAll("[data-pwned], img, iframe, b, script:not([src^='/assets/'])")]
  .concat([...document.querySelectorAll("*")].filter((one) => [...one.attributes].some((of) => of.name.startsWith("on"))))
  .map((one) => one.outerHTML.slice(0, 200));

async function look(page, name, path) {
  looks += 1;
  const answer = await page.goto(address + path);
  if (answer.status() !== 200) wrong.push(`${path}: ${answer.status()}`);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wider > 0) wrong.push(`${name} ${path} is ${wider} pixels wider than the screen`);
  for (const one of await page.evaluate(injected)) wrong.push(`${name} ${path} has the element ${one}`);
  const text = await page.evaluate(() => document.querySelector("main").textContent);
  // A report is JSON, in which a quotation mark has a mark before it.
  const has = (there) => text.includes(there) || text.includes(JSON.stringify(there).slice(1, -1));
  for (const [, there] of names.filter(([at]) => at === path)) if (!has(there)) wrong.push(`${name} ${path} does not show ${there}`);
  if (pictures) await page.screenshot({ path: `${pictures}/${name}${path.split("?")[0].replaceAll("/", "-")}.png`, fullPage: true });
}

async function accessible(page, name, path) {
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => window.axe.run());
  if (passes.length < 5) wrong.push(`${name} ${path}: axe has looked at nothing`);
  for (const one of violations) {
    wrong.push(`${name} ${path}: ${one.id}: ${one.help} (${one.nodes.map((node) => node.target).join("; ")})`);
  }
}

for (const colorScheme of ["light", "dark"]) {
  for (const [shape, viewport] of [["wide", { width: 1280, height: 900 }], ["phone", { width: 375, height: 740 }]]) {
    const name = `${shape}-${colorScheme}`;
    // axe is put into the page from outside, which the page's own policy would refuse.
    const one = await context(browser, wrong, { colorScheme, viewport, bypassCSP: true });
    const page = await one.newPage();
    await asked(page);
    for (const path of views) {
      await look(page, name, path);
      await accessible(page, name, path);
    }
    await one.close();
  }
}

// With the page's own policy: a backup is started, watched, and ends without anybody loading the page again.
const watched = await context(browser, wrong, { viewport: { width: 1280, height: 900 } });
const page = await watched.newPage();
await asked(page);
await page.goto(address + "/");
await page.click("button[aria-label='Start backup']");
await page.waitForURL(/\/runs\/[0-9a-f-]{36}$/);
const run = page.url();
await page.waitForSelector("h1 .tag.good", { timeout: 60_000 });
if (!(await page.locator("pre").last().textContent()).includes("ended")) wrong.push("the log of a run is not shown");
if (pictures) await page.screenshot({ path: `${pictures}/run.png`, fullPage: true });

// A rehearsal's report brings its own style and policy: what the policy refuses would be an error of the console's.
await page.goto(address + "/migrations/tune-autovacuum");
const report = await page.locator("a[href*='/rehearsals/']").first().getAttribute("href");
const rehearsal = await page.goto(address + report);
if (!rehearsal.headers()["content-security-policy"].includes("sandbox")) wrong.push("a rehearsal's report has no policy of its own");
if ((await page.locator("svg").count()) === 0) wrong.push("a rehearsal's report has no picture");
if (pictures) await page.screenshot({ path: `${pictures}/rehearsal.png`, fullPage: true });

// A migration is approved by whoever has read it.
await page.goto(address + "/migrations/tune-autovacuum");
await page.check("input[name=read]");
await page.click("button:text('Approve')");
await page.waitForSelector("h2:text('Approvals')");
if (pictures) await page.screenshot({ path: `${pictures}/approved.png`, fullPage: true });

// One that was applied is taken back, by whoever says so.
await page.goto(address + "/migrations/one-table");
await page.check("input[name=sure]");
await page.click("button:text('Undo it')");
await page.waitForURL(/\/runs\/[0-9a-f-]{36}$/);
await page.waitForSelector("h1 .tag.good", { timeout: 60_000 });

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
const plain = await context(browser, wrong, { javaScriptEnabled: false });
const still = await plain.newPage();
await asked(still);
for (const path of views) await look(still, "plain", path);
await still.goto(address + "/");
await still.click("button[aria-label='Start visibility']");
if (!/\/runs\/[0-9a-f-]{36}$/.test(still.url())) wrong.push(`without a script a run is not started: ${still.url()}`);
await still.click("button:text('Sign out')");
await still.goto(address + "/");
if (!still.url().includes("/sign-in")) wrong.push("signing out does not");
await plain.close();

await browser.close();
console.log(JSON.stringify({ looks, wrong }));
