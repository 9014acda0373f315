// Sentences of the server in the words of the page: labels in place of fields.

import { shownName } from "./script.js";
import { SETTINGS } from "./settings.js";

const FIELD = /\b[a-z]+(?:_[a-z]+)+\b/g;
const TAG = /\bSPEAKER\d{1,2}\b/g;

/** A warning about a result. */
export function warningInWords(message) {
  return message
    .replace(FIELD, (field) => {
      const setting = SETTINGS.find((each) => each.field === field);
      return setting ? `“${setting.label}”` : field;
    })
    .replace(TAG, shownName);
}

/** An error about a field, as a sentence about its control. Numbers are in the control's unit. */
export function errorInWords(message, field, { label, fromField }) {
  const about = message.startsWith(field) && !/[\w.[]/.test(message[field.length])
    ? label + message.slice(field.length)
    : message.replace(new RegExp(`^${field.split(/[.[]/)[0]}[\\w.\\[\\] -]*?(?=:| is | has | names | takes | says )`), label);
  if (!fromField) return about;
  return about
    .replace("a whole number", "a number of seconds")
    .replace(/(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)/g, (count) => fromField(Number(count)));
}
