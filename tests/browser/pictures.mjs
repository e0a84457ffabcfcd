// Takes the pictures of the documentation. Arguments: address, folder. The token is in BROWSER_TOKEN.
import { context, launch, signIn } from "./chromium.mjs";

const [address, folder] = process.argv.slice(2);
const wrong = [];
const browser = await launch();

async function take(name, path, options) {
  const one = await context(browser, wrong, { viewport: { width: 1180, height: 760 }, colorScheme: "light", ...options });
  const page = await one.newPage();
  await signIn(page, address);
  await page.goto(address + path);
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
  await one.close();
}

await take("status", "/");
await take("status-dark", "/", { colorScheme: "dark" });
await take("status-phone", "/", { viewport: { width: 375, height: 740 } });
await take("retention", "/retention");
await take("visibility", "/visibility");
await take("backups", "/backups");
await take("migration", "/migrations/tune-autovacuum");
await take("runs", "/runs");
await browser.close();
for (const one of wrong) console.error(one);
process.exit(wrong.length ? 1 : 0);
