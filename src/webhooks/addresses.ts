import { lookup as lookupDns } from "node:dns/promises";
import { isIP, type LookupFunction, type Socket } from "node:net";
import ipaddr from "ipaddr.js";
import { buildConnector } from "undici";
import type { AllowedNetworks } from "../config.ts";

/** Finds all addresses of a host. */
export type Resolve = (hostname: string) => Promise<readonly { readonly address: string; readonly family: number }[]>;

/** A connection that was not made, or not used, because of where it would have led. */
export class ForbiddenAddressError extends Error {
  override readonly name = "ForbiddenAddressError";
}

/** All that is given out to the public internet over IPv6; the rest is reserved, private or leads back into IPv4. */
const globalUnicast = ipaddr.IPv6.parseCIDR("2000::/3");

/** Whether a webhook may be sent to this address (rule H5): a public one, or one that was allowed by name. */
export function isAllowedAddress(text: string, allowed: AllowedNetworks): boolean {
  // A zone (fe80::1%eth0) belongs to link-local addresses alone.
  if (!ipaddr.isValid(text) || text.includes("%")) return false;
  // IPv4 written as IPv6 is what it stands for.
  const address = ipaddr.process(text);
  if (allowed.some(([network, bits]) => network.kind() === address.kind() && address.match(network, bits))) return true;
  if (address.range() !== "unicast") return false;
  return address instanceof ipaddr.IPv4 || address.match(globalUnicast);
}

export const resolveByDns: Resolve = (hostname) => lookupDns(hostname, { all: true, verbatim: true });

/**
 * Makes connections to allowed addresses only. Names are resolved here, and every address that comes back is
 * judged before any is tried; literal addresses, which are never resolved, before they are tried; and the address
 * really reached once more.
 */
export function createGuardedConnector(options: {
  readonly allowed: AllowedNetworks;
  readonly resolve?: Resolve;
  readonly timeoutMs: number;
  /** Certificates of authorities to trust instead of the well-known ones. */
  readonly authorities?: string;
}): buildConnector.connector {
  const { allowed, resolve = resolveByDns, timeoutMs, authorities } = options;
  const lookup: LookupFunction = (hostname, { all, family }, callback) => {
    resolve(hostname).then(
      (addresses) => {
        const wanted = addresses.filter((found) => family === undefined || family === 0 || family === found.family || family === `IPv${found.family}`);
        const [first] = wanted;
        if (first === undefined) {
          callback(Object.assign(new Error("the host has no address"), { code: "ENOTFOUND" }), "", 0);
        } else if (!addresses.every(({ address }) => isAllowedAddress(address, allowed))) {
          callback(new ForbiddenAddressError("the host has a private or reserved address"), "", 0);
        } else if (all === true) callback(null, wanted.map((found) => ({ ...found })));
        else callback(null, first.address, first.family);
      },
      (error: unknown) => {
        callback(error as NodeJS.ErrnoException, "", 0);
      },
    );
  };
  const connect = buildConnector({ lookup, timeout: timeoutMs, autoSelectFamily: true, ...(authorities === undefined ? {} : { ca: authorities }) });
  return (target, callback) => {
    const host = target.hostname.replace(/^\[|\]$/g, "");
    if (isIP(host) !== 0 && !isAllowedAddress(host, allowed)) {
      callback(new ForbiddenAddressError("the address is private or reserved"), null);
      return;
    }
    connect(target, (...result) => {
      const [error, socket] = result;
      if (error === null && !isAllowedAddress((socket as Socket).remoteAddress ?? "", allowed)) {
        socket.destroy();
        callback(new ForbiddenAddressError("the address reached is private or reserved"), null);
        return;
      }
      callback(...result);
    });
  };
}
