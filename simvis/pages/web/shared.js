// What both pages begin with.
"use strict";

const $ = (id) => document.getElementById(id);
const DATA = JSON.parse($("data").textContent);

/** Returns a number for the eye, without a minus sign before zero. */
const number = (value, digits = 4) =>
  Number.isFinite(value)
    ? value
        .toFixed(digits)
        .replace(/^-(?=0\.?0*$)/, "")
        .replace("-", "−")
    : "–";
