import { ObjectStep, SafeError, sideEffect, trap, TRAP_ERROR } from "postgraphile/grafast";
import { wrapPlans } from "postgraphile/utils";

/**
 * Changing or deleting what is not there, or what another tenant has, is an error like in every other way in (spec
 * K2): PostGraphile itself answers an update with an empty payload, which reads like success, and a
 * delete with a fault.
 */
export const MissingRowsPlugin: GraphileConfig.Plugin = wrapPlans(
  (context) => {
    const { isRootMutation, isPgUpdateMutation, isPgDeleteMutation, pgFieldResource } = context.scope as Scope;
    if (isRootMutation !== true || (isPgUpdateMutation !== true && isPgDeleteMutation !== true)) return null;
    return pgFieldResource?.name.replaceAll("_", " ").replace(/s$/, "") ?? "row";
  },
  (noun) => (plan) => {
    const $payload = plan() as unknown;
    if (!($payload instanceof ObjectStep)) throw new Error("an update or delete without a payload");
    const $row = trap($payload.get("result"), TRAP_ERROR, { valueForError: "PASS_THROUGH" });
    sideEffect($row, (row: unknown) => {
      if (isMissing(row)) throw new SafeError(`No ${noun} has this ID.`, { code: "LR006" });
      if (row instanceof Error) throw row;
    });
    return $payload;
  },
  { name: "LaurelMissingRowsPlugin" },
);

/** An update finds nothing, a delete says so in an error that has only its text. */
function isMissing(row: unknown): boolean {
  if (row instanceof Error) return row.message.startsWith("No values were deleted in collection ");
  return row === null || row === undefined;
}

interface Scope {
  readonly isRootMutation?: boolean;
  readonly isPgUpdateMutation?: boolean;
  readonly isPgDeleteMutation?: boolean;
  readonly pgFieldResource?: { readonly name: string };
}
