"""The selection of `bench/shifts.py` for RDataFrame, which varies the momenta of jets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SELECTION = """
#pragma cling optimize(3)
#include <cmath>
#include <map>
#include <string>
#include <vector>
#include "Math/Vector4D.h"
#include "ROOT/RDFHelpers.hxx"
#include "ROOT/RDataFrame.hxx"
#include "TMath.h"

namespace shifts {
using ROOT::RVecD, ROOT::RVecF, ROOT::RVecI;
struct Z { bool pass = false; double mass = 0; RVecD eta, phi; };
struct Sums { int n = 0; double ht = 0, leading = 0; };

Z find(const RVecF& pt, const RVecF& eta, const RVecF& phi, const RVecF& mass, const RVecI& charge) {
  Z z;
  std::vector<size_t> good;
  for (size_t i = 0; i < pt.size(); ++i)
    if (pt[i] > 20 && std::abs(double(eta[i])) < 2.4) good.push_back(i);
  if (good.size() != 2 || charge[good[0]] + charge[good[1]] != 0) return z;
  ROOT::Math::PtEtaPhiMVector sum;
  for (size_t i : good) {
    sum += ROOT::Math::PtEtaPhiMVector(pt[i], eta[i], phi[i], mass[i]);
    z.eta.push_back(eta[i]);
    z.phi.push_back(phi[i]);
  }
  z.mass = sum.M();
  z.pass = std::abs(z.mass - 91.19) < 15;
  return z;
}

RVecI away(const RVecF& eta, const RVecF& phi, const Z& z) {
  RVecI found(eta.size(), 1);
  for (size_t i = 0; i < eta.size(); ++i) {
    found[i] = std::abs(double(eta[i])) < 2.4;
    for (size_t j = 0; j < z.eta.size(); ++j) {
      double along = eta[i] - z.eta[j], across = std::remainder(phi[i] - z.phi[j], 2 * TMath::Pi());
      if (along * along + across * across < 0.4 * 0.4) found[i] = 0;
    }
  }
  return found;
}

Sums add(const RVecD& pt, const RVecI& away) {
  Sums s;
  for (size_t i = 0; i < pt.size(); ++i)
    if (away[i] && pt[i] > 30) { ++s.n; s.ht += pt[i]; s.leading = std::max(s.leading, pt[i]); }
  return s;
}

using Counts = std::map<std::string, std::vector<double>>;
void keep(Counts& counts, const std::string& name, const TH1D& histogram) {
  for (int bin = 1; bin <= histogram.GetNbinsX(); ++bin) counts[name].push_back(histogram.GetBinContent(bin));
}

using Ranges = std::map<std::string, std::pair<double, double>>;
Counts histograms(const std::string& file, const std::vector<double>& sizes, const Ranges& ranges) {
  std::vector<std::string> tags;
  for (size_t i = 0; i < sizes.size(); ++i) tags.push_back(std::to_string(i));
  ROOT::RDF::RNode frame = ROOT::RDataFrame("Events", file)
    .Define("z", find, {"Muon_pt", "Muon_eta", "Muon_phi", "Muon_mass", "Muon_charge"})
    .Filter([](const Z& z) { return z.pass; }, {"z"})
    .Define("away", away, {"Jet_eta", "Jet_phi", "z"})
    .Define("pt", [](const RVecF& pt) { return RVecD(pt.begin(), pt.end()); }, {"Jet_pt"});
  if (!sizes.empty())
    frame = frame.Vary("pt", [sizes](const RVecD& pt, const RVecF& eta) {
      ROOT::RVec<RVecD> found;
      for (double size : sizes) {
        RVecD scaled(pt.size());
        for (size_t i = 0; i < pt.size(); ++i) scaled[i] = pt[i] * (1 + size * (1 + std::abs(double(eta[i]))));
        found.push_back(scaled);
      }
      return found;
    }, {"pt", "Jet_eta"}, tags, "jes");
  frame = frame.Define("sums", add, {"pt", "away"}).Filter([](const Sums& s) { return s.n > 0; }, {"sums"})
    .Define("nJet_", [](const Sums& s) { return double(s.n); }, {"sums"})
    .Define("HT", [](const Sums& s) { return double(float(s.ht)); }, {"sums"})
    .Define("leading_pt", [](const Sums& s) { return double(float(s.leading)); }, {"sums"})
    .Define("Z_mass", [](const Z& z) { return double(float(z.mass)); }, {"z"});
  std::map<std::string, ROOT::RDF::RResultPtr<TH1D>> nominal;
  std::map<std::string, ROOT::RDF::Experimental::RResultMap<TH1D>> varied;
  for (const auto& [name, range] : ranges) {
    nominal[name] = frame.Histo1D<double>({name.c_str(), "", 50, range.first, range.second}, name == "nJet" ? "nJet_" : name);
    if (!sizes.empty()) varied.emplace(name, ROOT::RDF::Experimental::VariationsFor(nominal[name]));
  }
  Counts counts;
  for (auto& [name, histogram] : nominal) keep(counts, "-1 " + name, *histogram);
  for (auto& [name, all] : varied)
    for (const auto& tag : tags) keep(counts, tag + " " + name, all["jes:" + tag]);
  return counts;
}
}  // namespace shifts
"""


@lru_cache
def compiled() -> Any:
    """What RDataFrame runs, compiled once."""
    import ROOT

    ROOT.gInterpreter.Declare(_SELECTION)
    return ROOT


def histograms(
    source: Path, shifts: Sequence[tuple[str, float]], ranges: Mapping[str, tuple[float, float]]
) -> dict[tuple[int, str], NDArray[np.float64]]:
    """The histograms by the place of the shift, -1 for none, and the name of the quantity."""
    root = compiled()
    sizes = root.std.vector["double"]([sign * (0.005 + 0.001 * int(name[3:])) for name, sign in shifts])
    limits = root.std.map["std::string", "std::pair<double,double>"]()
    for name, (low, high) in ranges.items():
        limits[name] = root.std.pair["double", "double"](low, high)
    found = root.shifts.histograms(str(source), sizes, limits)
    parts = ((str(name).split(), counts) for name, counts in found)
    return {(int(place), name): np.asarray(counts) for (place, name), counts in parts}
