import { expect } from "@jest/globals";
import type { Refusal } from "./engine.ts";

/** A refusal of Laurel's own: this code, a message that names the culprit, and a detail and hint in words. */
export function lr(code: `LR${string}`, message: string | RegExp = /./): Refusal {
  return expect.objectContaining({
    code,
    message: typeof message === "string" ? expect.stringContaining(message) : expect.stringMatching(message),
    detail: expect.stringMatching(/\S/),
    hint: expect.stringMatching(/\S \S/),
  }) as unknown as Refusal;
}

/** A refusal by the constraint of this name. */
export function violates(constraint: string): Refusal {
  return expect.objectContaining({ constraint }) as unknown as Refusal;
}
