import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { projectDirectory } from "../src/config.ts";
import { withRollback } from "./support/database.ts";

const readme = readFileSync(join(projectDirectory, "README.md"), "utf8");
const sqlBlocks = [...readme.matchAll(/```sql\n(.*?)```/gs)].map((match) => match[1] ?? "");

test("the README's SQL runs as it stands, and explains its award in the words shown", async () => {
  expect(sqlBlocks.length).toBeGreaterThan(2);
  await withRollback(async (db) => {
    for (const block of sqlBlocks) await db.query(block);
    const { rows } = await db.query<{ sentence: string }>(
      "select laurel.explain_award(id) ->> 'sentence' as sentence from laurel.points_awards where user_id = 'ada' order by sequence limit 2",
    );
    expect(rows).toHaveLength(2);
    for (const { sentence } of rows) expect(readme).toContain(sentence);
    const { rows: broken } = await db.query("select * from laurel.verify()");
    expect(broken).toEqual([]);
  });
});

test("the README's error table is the catalogue", async () => {
  const rows = await withRollback(async (db) => {
    const result = await db.query<{ row: string }>(
      "select format('| %s | %s | %s | %s |', code, http_status, name, replace(message, '%s', '…')) as row from laurel_private.error_catalogue()",
    );
    return result.rows.map(({ row }) => row);
  });
  expect([...readme.matchAll(/^\| LR\d+ .*$/gm)].map(([row]) => row)).toEqual(rows);
});
