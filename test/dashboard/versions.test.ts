import { expect, test } from "@jest/globals";
import { changedValues, mergeValues } from "../../src/dashboard/ui/versions.ts";

const before = { name: "XP", points: "10", pairs: [{ key: "plan", value: "pro" }] };

test.each([
  ["what only others changed is taken over", before, { ...before, name: "Gold" }, { ...before, name: "Gold" }, {}, true],
  ["what only this form changed stays", { ...before, points: "11" }, before, { ...before, points: "11" }, {}, false],
  ["each side's own changes come together", { ...before, points: "11" }, { ...before, name: "Gold" }, { ...before, name: "Gold", points: "11" }, {}, true],
  ["what both changed stays as it was typed, and theirs is told", { ...before, points: "11" }, { ...before, points: "12" }, { ...before, points: "11" }, { points: "12" }, true],
  ["the same change on both sides is no news", { ...before, points: "12" }, { ...before, points: "12" }, { ...before, points: "12" }, {}, false],
  ["lists are compared by what they hold", { ...before, pairs: [] }, { ...before, pairs: [{ key: "plan", value: "pro" }] }, { ...before, pairs: [] }, {}, false],
])("%s", (_claim, mine, now, values, theirs, isNews) => {
  expect(mergeValues(before, mine, now)).toEqual({ values, theirs, isNews });
});

test("what was changed is what is sent", () => {
  expect(changedValues(before, { ...before, points: "11" })).toEqual({ points: "11" });
});
