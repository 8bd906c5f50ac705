import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { type CsvError, type InfoRecord, parse } from "csv-parse";

/** What a CSV file holds, in order: records, and lines that are no record. Line numbers start at 1. */
export type CsvItem =
  | { readonly kind: "record"; readonly line: number; readonly fields: readonly string[]; readonly endOffset: number }
  | { readonly kind: "fault"; readonly line: number; readonly reason: string; readonly endOffset: number };

/** Far more than any event takes; what is larger comes of a quote that is never closed. */
const longestRecordBytes = 1_000_000;

/**
 * Reads a CSV file (RFC 4180; a byte order mark, any kind of line end and blank lines are fine) record by record. A line whose
 * quotes make no sense is told as a fault, and reading goes on at the next line: the parser by itself would take whatever
 * follows such a line for a part of it.
 */
export async function* readCsv(path: string): AsyncGenerator<CsvItem> {
  let offset = 0;
  let linesBefore = 0;
  for (;;) {
    let error: CsvError | undefined;
    let goodOffset = offset;
    let goodLines = linesBefore;
    const input = createReadStream(path, { start: offset });
    const parser = parse({
      bom: offset === 0,
      info: true,
      relax_column_count: true,
      skip_empty_lines: true,
      skip_records_with_error: true,
      record_delimiter: ["\r\n", "\n", "\r"],
      max_record_size: longestRecordBytes,
      on_record: (record: unknown, context: InfoRecord) => {
        if (error !== undefined) return null;
        goodOffset = offset + context.bytes;
        goodLines = linesBefore + context.lines;
        return record as string[];
      },
      on_skip: (skipped) => {
        error ??= skipped;
        // What follows is read again from its start; what came before is still to be handed out.
        input.unpipe(parser);
        parser.end();
        return undefined;
      },
    });
    input.on("error", (inputError) => {
      parser.destroy(inputError);
    });
    input.pipe(parser);
    for await (const item of parser) {
      const { record, info } = item as { record: string[]; info: InfoRecord };
      const lineEnds = record.reduce((count, field) => count + (field.match(/\r\n|\n|\r/g)?.length ?? 0), 0);
      yield {
        kind: "record",
        line: linesBefore + info.lines - lineEnds,
        fields: record,
        endOffset: offset + info.bytes,
      };
    }
    input.destroy();
    // Assigned by the callbacks above, which the compiler does not follow.
    const fault: CsvError | undefined = error;
    if (fault === undefined) return;
    const line = await findLine(path, goodOffset);
    linesBefore = goodLines + line.blankLinesBefore + 1;
    offset = line.endOffset;
    yield { kind: "fault", line: linesBefore, reason: reasonOf(fault), endOffset: offset };
  }
}

function reasonOf({ code }: CsvError): string {
  if (code === "CSV_QUOTE_NOT_CLOSED" || code === "CSV_MAX_RECORD_SIZE") {
    return 'A quote is opened and never closed. Inside quotes, write "" for a quote.';
  }
  return 'A quote stands inside a field. Put the whole field in quotes, and write "" for a quote inside it.';
}

/** The first line from `offset` on that is not blank: where the next one starts, and how many blank ones precede it. */
async function findLine(path: string, offset: number): Promise<{ endOffset: number; blankLinesBefore: number }> {
  const file = await open(path);
  try {
    const buffer = Buffer.alloc(65_536);
    let blankLinesBefore = 0;
    let isBlank = true;
    let previous = 0;
    for (let position = offset; ; ) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) return { endOffset: position, blankLinesBefore };
      for (let index = 0; index < bytesRead; index += 1) {
        const byte = buffer[index] ?? 0;
        if (byte === newline) {
          if (!isBlank) return { endOffset: position + index + 1, blankLinesBefore };
          blankLinesBefore += 1;
        } else if (previous === carriageReturn && !isBlank) {
          return { endOffset: position + index, blankLinesBefore };
        } else if (byte !== carriageReturn) {
          isBlank = false;
        }
        previous = byte;
      }
      position += bytesRead;
    }
  } finally {
    await file.close();
  }
}

const newline = 0x0a;
const carriageReturn = 0x0d;
