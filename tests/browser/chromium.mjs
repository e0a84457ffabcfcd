// Chromium by playwright-core, a context that tells of everything a page complains about, and signing in.
import { createRequire } from "node:module";

export const require = createRequire(process.env.STACK_BROWSER + "/");
const { chromium } = require("playwright-core");

export function launch() {
  return chromium.launch({
    executablePath: process.env.STACK_CHROMIUM,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
    ],
  });
}

// A context whose pages put what goes wrong into a list.
export async function context(browser, wrong, options) {
  const made = await browser.newContext(options);
  made.on("page", (page) => {
    page.on("console", (message) => {
      // A refusal is an error of the console's too; what came of it is looked at.
      const refused = /status of 40[13]/.test(message.text());
      if (message.type() === "error" && !refused) wrong.push(`console of ${page.url()}: ${message.text()}`);
    });
    page.on("pageerror", (error) => wrong.push(`script of ${page.url()}: ${error}`));
    page.on("dialog", (dialog) => { wrong.push(`dialog of ${page.url()}`); dialog.dismiss(); });
    page.on("requestfailed", (request) => {
      const failed = request.failure()?.errorText ?? "";
      if (!failed.includes("ERR_ABORTED")) wrong.push(`${request.url()}: ${failed}`);
    });
  });
  return made;
}

export async function signIn(page, address) {
  await page.goto(address + "/sign-in");
  await page.fill("#token", process.env.BROWSER_TOKEN);
  await page.click("button.main");
}
